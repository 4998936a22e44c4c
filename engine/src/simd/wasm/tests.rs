//! These vectors and portable code have the same lanes, tiles and roundings: whole networks have the same bits, as a
//! program without vectors and on any other machine with portable code.

use crate::calibration::Calibration;
use crate::kernels::testing::normal;
use crate::simd::Isa;
use crate::zoo;
use crate::{
    AdamConfig, Exec, Inference, Model, Optimizer, Precision, Quantization, Shape, TrainConfig, Trainer,
};

const BATCH: usize = 3;
const CLASSES: usize = 7;

/// The networks of the zoo on small images, as they are at the start.
fn networks() -> impl Iterator<Item = (&'static str, Model, Vec<f32>)> {
    zoo::NAMES.into_iter().map(|name| {
        let side = zoo::smallest_input(name).expect("a name of the zoo").max(32);
        let graph = zoo::build(name, Shape::new(side, side, 3), CLASSES).expect("a size that it takes");
        let images = normal(1, BATCH * graph.input.len());
        (name, Model::init(graph, 2).expect("the graph is sound"), images)
    })
}

/// Fails at the first number that differs.
fn compare(what: &str, find: impl Fn(Isa) -> Vec<f32>) {
    let [fast, portable] =
        ["simd128", "portable"].map(|name| find(Isa::by_name(name).expect("both are there")));
    assert_eq!(fast.len(), portable.len(), "{what}");
    let differs = (0..fast.len()).find(|&at| fast[at].to_bits() != portable[at].to_bits());
    if let Some(at) = differs {
        panic!("{what} [{at}]: {:e} with vectors, {:e} in portable code", fast[at], portable[at]);
    }
}

fn logits(model: &Model, scales: Option<&Quantization>, images: &[f32], exec: &Exec) -> Vec<f32> {
    let mut inference = Inference::quantized(model, scales, &[], BATCH, exec).expect("it has room");
    let mut logits = vec![0.0; BATCH * CLASSES];
    inference.run(images, BATCH, &mut logits).expect("images of the stated shape");
    logits
}

#[test]
fn answers_have_the_bits_of_portable_code() {
    for (name, model, images) in networks() {
        for (exact, precision) in [(false, Precision::F32), (true, Precision::F32), (false, Precision::Bf16)]
        {
            compare(&format!("{name}, {}, exact: {exact}", precision.name()), |isa| {
                let exec = Exec::with_isa(isa, 1).expect("one thread").exact(exact).precision(precision);
                logits(&model, None, &images, &exec)
            });
        }
        let portable = Exec::with_isa(Isa::by_name("portable").expect("it is there"), 1).expect("one thread");
        let scales = Calibration::quick(&model, &images, &portable).expect("images of the stated shape");
        compare(&format!("{name}, int8"), |isa| {
            logits(&model, Some(&scales), &images, &Exec::with_isa(isa, 1).expect("one thread"))
        });
    }
}

#[test]
fn training_has_the_bits_of_portable_code() {
    for (name, model, images) in networks() {
        compare(&format!("{name}, trained"), |isa| {
            let optimizer = Optimizer::AdamW(AdamConfig::default());
            let config = TrainConfig { batch: BATCH, optimizer, seed: 3, ..TrainConfig::default() };
            let exec = Exec::with_isa(isa, 1).expect("one thread");
            let mut trainer = Trainer::new(model.clone(), config, &exec).expect("it has room");
            for _ in 0..2 {
                trainer.step(&images, &[0, 3, 6], 0.01).expect("images of the stated shape");
            }
            trainer.model().params().to_vec()
        });
    }
}
