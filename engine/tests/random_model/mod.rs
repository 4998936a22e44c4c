//! Models and images of random numbers.

use ocelli_engine::rng::Rng;
use ocelli_engine::{Graph, Model, ParamKind};

/// A model whose parameters are all random, running statistics included.
pub(crate) fn model(graph: Graph) -> Model {
    let mut model = Model::zeros(graph).expect("the graph is sound");
    let mut rng = Rng::new(1, 0);
    model.params_mut().iter_mut().for_each(|p| *p = 0.3 * rng.normal());
    let entries = model.layout().entries().to_vec();
    for entry in entries.iter().filter(|entry| entry.kind == ParamKind::RunningVar) {
        model.params_mut()[entry.range()].iter_mut().for_each(|p| *p = 0.5 + p.abs());
    }
    model
}

/// `count` images of height, width and channels.
pub(crate) fn images(count: usize, shape: [usize; 3]) -> Vec<f32> {
    let mut rng = Rng::new(2, 0);
    (0..count * shape.iter().product::<usize>()).map(|_| rng.normal()).collect()
}

/// What is compared, to the bit.
pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
