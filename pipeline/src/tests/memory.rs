//! A model from a stranger cannot ask for more memory than the machine has.

use ocelli_engine::graph::{Conv2d, Dense, Graph, Op};
use ocelli_engine::{EngineError, Model, Shape};

use crate::{Compute, PipelineError, Predictor, memory_share, shipped_model};

#[test]
fn a_model_that_needs_a_terabyte_is_refused_with_the_limit() {
    let mut graph = Graph::new(Shape::new(1 << 12, 1 << 12, 1));
    let branches: Vec<u32> =
        (0..1200).map(|i| graph.push(format!("conv{i}"), Op::Conv2d(Conv2d::new(16, 1)), &[0])).collect();
    let mut sum = branches[0];
    for (i, &value) in branches.iter().enumerate().skip(1) {
        sum = graph.push(format!("add{i}"), Op::Add, &[sum, value]);
    }
    graph.push("pool", Op::GlobalAvgPool, &[sum]);
    graph.then("dense", Op::Dense(Dense { units: 10, bias: true }));
    let mut file = shipped_model().unwrap();
    file.model = Model::init(graph, 1).unwrap();
    (file.meta.preprocessing.width, file.meta.preprocessing.height) = (1 << 12, 1 << 12);
    file.probes = None;

    let error = Predictor::from_model_file(file, Compute::on(1)).err();
    let Some(PipelineError::Engine(EngineError::Memory { parts, limit })) = &error else {
        panic!("{error:?}");
    };
    assert!(parts[0].1 > 1 << 40 && *limit as u64 == memory_share(), "{error:?}");
    assert!(error.unwrap().to_string().contains("MiB of memory, the limit is"));
}
