//! Runs with mixed images.

use super::*;

#[test]
fn mixed_runs_are_repeatable_and_go_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let data = idx_data(dir.path());
    let plain = essence(&train_quietly(&options(&dir, data.clone(), recipe())).run_dir);
    for (mixup, cutmix) in [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)] {
        let mixed = Recipe { mixup, cutmix, ..recipe() };
        let whole = train_quietly(&options(&dir, data.clone(), mixed.clone()));
        assert!(whole.evaluation.unwrap().accuracy > 0.6);
        let expected = essence(&whole.run_dir);
        assert_ne!(expected.last, plain.last);
        let threads = Recipe { threads: 3, ..mixed.clone() };
        let stop = AtomicBool::new(false);
        let stopped = train(&options(&dir, data.clone(), threads), &stop, &mut |event| {
            if matches!(event, Event::Step { epoch: 3, .. }) {
                stop.store(true, Ordering::Relaxed);
            }
        })
        .unwrap();
        assert!(stopped.interrupted);
        resume(&stopped.run_dir, None, &NEVER, &mut |_| {}).unwrap();
        assert_eq!(essence(&stopped.run_dir), expected, "mixup {mixup}, cutmix {cutmix}");
    }
}
