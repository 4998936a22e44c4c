//! What a plan takes is known before it takes it, and bounded by the images of a pass where the network allows that.

use ocelli_engine::{Exec, Learning, Mode, Norms, Plan, Shape, zoo};

const TRAIN: Mode = Mode::Train(Learning { norms: Norms::Batch, frozen: 0 });

#[test]
fn measured_is_what_is_taken() {
    for name in zoo::NAMES {
        let graph = zoo::build(name, Shape::new(64, 64, 3), 5).unwrap();
        for (mode, threads) in [(TRAIN, 1), (TRAIN, 2), (Mode::Infer, 2)] {
            for chunk in [0, 3] {
                let exec = Exec::new(threads).unwrap().chunk(chunk);
                let (measured, pass) = Plan::measure(&graph, 16, mode, &exec).unwrap();
                let plan = Plan::compile(&graph, 16, mode, &exec).unwrap();
                let taken = plan.memory();
                assert_eq!(
                    (measured.tensors, measured.weights, measured.scratch, pass),
                    (taken.tensors, taken.weights, taken.scratch, plan.chunk()),
                    "{name} {mode:?} {threads} {chunk}"
                );
            }
        }
    }
}

#[test]
fn a_pass_has_no_more_images_than_asked_for() {
    let exec = Exec::new(1).unwrap();
    let of = |name: &str, chunk| {
        let graph = zoo::build(name, Shape::new(32, 32, 3), 5).unwrap();
        let (memory, pass) = Plan::measure(&graph, 64, TRAIN, &exec.clone().chunk(chunk)).unwrap();
        (memory.total(), pass)
    };
    let free = of("keras-cnn", 0);
    for chunk in [1, 2, 7, 16] {
        let bounded = of("keras-cnn", chunk);
        assert!(bounded.1 <= chunk && bounded.0 < free.0, "{chunk}: {bounded:?} of {free:?}");
    }
    assert_eq!(of("keras-cnn", 1000), free);
    // Statistics over a batch need all of it.
    assert_eq!(of("resnet9", 1), of("resnet9", 0));
}
