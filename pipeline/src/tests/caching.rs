//! Runs whose images do not fit in memory.

use super::*;
use crate::{ResumeTo, cache_folder};

/// The bits of a run's best weights.
fn weights(outcome: &Outcome) -> Vec<u32> {
    open_model(&outcome.run_dir).unwrap().model.params().iter().map(|w| w.to_bits()).collect()
}

fn options(dir: &Path, data: &Data, cache_memory: Option<u64>) -> TrainOptions {
    let recipe = Recipe {
        epochs: 3,
        batch: 16,
        augment: AugmentLevel::Medium,
        threads: 2,
        size: Some((20, 20)),
        ..Recipe::default()
    };
    let within = Within { cache_memory, ..Within::default() };
    TrainOptions { recipe, within, ..TrainOptions::new(data.clone(), dir.join("runs")) }
}

#[test]
fn the_place_of_the_pixels_changes_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder_data(dir.path(), &[("bars", 0), ("columns", 1), ("checks", 2)], 20, 4);
    let run = |memory: Option<u64>| {
        let mut events = Vec::new();
        let outcome =
            train(&options(dir.path(), &data, memory), &NEVER, &mut |event| events.push(event.clone()))
                .unwrap();
        (weights(&outcome), events)
    };
    let notes = |events: &[Event]| -> Vec<String> {
        let text = |event: &Event| match event {
            Event::Note { text } if text.contains("decoded images take") => Some(text.clone()),
            _ => None,
        };
        events.iter().filter_map(text).collect()
    };
    let (plain, events) = run(None);
    assert!(notes(&events).is_empty());
    for memory in [0, 9_000, 30_000] {
        let (cached, events) = run(Some(memory));
        assert_eq!(cached, plain, "{memory} bytes in memory");
        let notes = notes(&events);
        assert_eq!(notes.len(), 1);
        assert_eq!(notes[0].contains("an earlier run"), memory > 0, "{notes:?}");
        let shares: Vec<f32> = events
            .iter()
            .filter_map(|event| match event {
                Event::Epoch { waited, .. } | Event::Done { waited, .. } => Some(*waited),
                _ => None,
            })
            .collect();
        assert_eq!(shares.len(), 4);
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}");
    }
}

#[test]
fn a_run_goes_on_with_the_file_of_its_images_and_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder_data(dir.path(), &[("bars", 0), ("columns", 1), ("checks", 2)], 20, 4);
    let whole = train(&options(dir.path(), &data, None), &NEVER, &mut |_| {}).unwrap();
    for removed in [false, true] {
        let stop = AtomicBool::new(false);
        let outcome = train(&options(dir.path(), &data, Some(0)), &stop, &mut |event| {
            if matches!(event, Event::Epoch { epoch: 2, .. }) {
                stop.store(true, Ordering::Relaxed);
            }
        })
        .unwrap();
        assert!(outcome.interrupted);
        if removed {
            fs::remove_dir_all(cache_folder(&dir.path().join("runs"))).unwrap();
        }
        let within = Within { cache_memory: Some(5_000), ..Within::default() };
        let resumed =
            resume_within(&outcome.run_dir, ResumeTo::Recipe, &within, &NEVER, &mut |_| {}).unwrap();
        assert_eq!(weights(&resumed), weights(&whole));
    }
}
