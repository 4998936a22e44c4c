//! A network up to one of its layers.

use crate::error::EngineError;
use crate::graph::{Graph, Op};
use crate::params::Model;

/// The part of a network that `node` depends on, itself included, with a flat output and the same parameters.
pub(super) fn model(model: &Model, node: usize) -> Result<Model, EngineError> {
    let whole = model.graph();
    let mut needed = vec![false; node + 1];
    needed[node] = true;
    for index in (0..=node).rev().filter(|&index| needed[index]).collect::<Vec<_>>() {
        need(whole, index, &mut needed);
    }
    let mut graph = Graph::new(whole.input);
    // For each value of the whole graph the one of the part.
    let mut values = vec![0; node + 2];
    for index in (0..=node).filter(|&index| needed[index]) {
        let layer = &whole.nodes[index];
        let inputs: Vec<u32> = layer.inputs.iter().map(|&value| values[value as usize]).collect();
        values[index + 1] = graph.push(layer.name.clone(), layer.op.clone(), &inputs);
    }
    // No layer of the part has this name, as names are unique and this one is longer than all.
    let longest = graph.nodes.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
    if !matches!(whole.nodes[node].op, Op::Flatten) {
        graph.then("=".repeat((longest + 1).min(128)), Op::Flatten);
    }
    let mut part = Model::zeros(graph)?;
    let entries = part.layout().entries().to_vec();
    for entry in &entries {
        let from = model.layout().entries().iter().find(|from| from.name == entry.name);
        let from = from.expect("a part has the parameters of the whole").range();
        part.params_mut()[entry.range()].copy_from_slice(&model.params()[from]);
    }
    Ok(part)
}

/// Marks what a layer reads, and what that reads.
fn need(graph: &Graph, index: usize, needed: &mut [bool]) {
    for &value in &graph.nodes[index].inputs {
        if let Some(before) = (value as usize).checked_sub(1)
            && !needed[before]
        {
            needed[before] = true;
            need(graph, before, needed);
        }
    }
}
