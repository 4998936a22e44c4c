//! Runs on images of many channels and of 16 bits.

use ocelli_testing::tiff::Tiff;

use super::*;

/// A TIFF of five 16-bit samples a pixel: noise, but for the fifth, which is bright in one class and dark in the other.
fn five_channels(class: usize, rng: &mut Rng) -> Vec<u8> {
    let level = [10_000, 50_000][class];
    let values = (0..12 * 12).flat_map(|_| {
        let noise: [u16; 4] = std::array::from_fn(|_| rng.below(65_536) as u16);
        noise.into_iter().chain([level + rng.below(5000) as u16]).collect::<Vec<u16>>()
    });
    Tiff::new(12, 12, &[16; 5], 1, values.flat_map(u16::to_le_bytes).collect()).bytes()
}

/// A TIFF of gray 16-bit values that differ between classes by less than a level of 8 bits.
fn deep_gray(class: usize, rng: &mut Rng) -> Vec<u8> {
    let values = (0..12 * 12).map(|_| [30_000, 30_150][class] + rng.below(50) as u16);
    Tiff::new(12, 12, &[16], 1, values.flat_map(u16::to_le_bytes).collect()).bytes()
}

fn trained(dir: &TempDir, channels: u8, image: fn(usize, &mut Rng) -> Vec<u8>) -> Outcome {
    let mut rng = Rng::new(1);
    let root = dir.path().join("spectra");
    for (class, name) in ["dark", "bright"].iter().enumerate() {
        fs::create_dir_all(root.join(name)).unwrap();
        for i in 0..40 {
            fs::write(root.join(name).join(format!("{i}.tif")), image(class, &mut rng)).unwrap();
        }
    }
    let recipe = Recipe { channels: Some(channels), augment: AugmentLevel::Light, epochs: 10, ..recipe() };
    train_quietly(&options(dir, Data::Path(root), recipe))
}

#[test]
fn a_run_learns_from_the_fifth_channel_and_predicts_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = trained(&dir, 5, five_channels);
    assert!(outcome.evaluation.as_ref().unwrap().accuracy > 0.9);
    let card = fs::read_to_string(outcome.run_dir.join("README.md")).unwrap();
    assert!(card.contains("images of 5 channels, of 12x12 pixels"), "{card}");
    let mut predictor = Predictor::open(&outcome.run_dir, Compute::on(1)).unwrap();
    let mut rng = Rng::new(9);
    for (class, name) in ["dark", "bright"].iter().enumerate() {
        let answer = predictor.predict_bytes(&five_channels(class, &mut rng), 1).unwrap();
        assert_eq!(answer.label, *name);
    }
    let error = predictor.predict_bytes(&bmp(&pattern(0, &mut rng), 1), 1).unwrap_err();
    assert!(error.to_string().contains("channels where 5 are wanted"), "{error}");
}

#[test]
fn sixteen_bits_are_not_cut_to_eight() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = trained(&dir, 1, deep_gray);
    assert!(outcome.evaluation.unwrap().accuracy > 0.9);
}
