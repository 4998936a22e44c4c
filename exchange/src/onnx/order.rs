//! Which nodes of a graph are read for its first output, and in which order they can run.

use std::collections::HashMap;

use super::schema::{ModelView, Node};

/// Where the walk through the graph is with a node.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Unseen,
    Open,
    Done,
}

/// Memory of a node and its outputs while the order is found, at most.
pub(super) const NODE_BYTES: usize = 160;

/// The nodes that the value `output` depends on: in the file's order where they can run in it, else each behind those whose
/// values it reads. Some writers append casts at the end of the graph. `take` notes memory.
///
/// # Errors
/// Those of `take`.
pub(super) fn live_nodes<'a>(
    model: &ModelView<'a>,
    output: &str,
    mut take: impl FnMut(usize) -> Result<(), String>,
) -> Result<Vec<Node<'a>>, String> {
    let mut messages = Vec::new();
    let mut makers = HashMap::new();
    for message in model.node_messages() {
        let node = Node::read(message);
        take(NODE_BYTES * node.outputs.len().max(1))?;
        for name in node.outputs.into_iter().filter(|name| !name.is_empty()) {
            makers.entry(name).or_insert(messages.len());
        }
        messages.push(message);
    }
    let mut states = vec![State::Unseen; messages.len()];
    let (mut order, mut is_sorted) = (Vec::new(), true);
    let mut open: Vec<usize> = makers.get(output).copied().into_iter().collect();
    while let Some(&index) = open.last() {
        if states[index] != State::Unseen {
            open.pop();
            if states[index] == State::Open {
                states[index] = State::Done;
                order.push(index);
            }
            continue;
        }
        states[index] = State::Open;
        for name in Node::read(messages[index]).inputs.iter().rev() {
            if let Some(&maker) = makers.get(name) {
                is_sorted &= maker < index;
                if states[maker] == State::Unseen {
                    open.push(maker);
                }
            }
        }
    }
    if is_sorted {
        order.sort_unstable();
    }
    Ok(order.into_iter().map(|index| Node::read(messages[index])).collect())
}
