//! From a graph to the text of a network's file.

use std::fmt::Write as _;

use ocelli_engine::graph::{BatchNorm, Padding, Pool2d};
use ocelli_engine::{Activation, Graph, Op};

use super::layer::{CLASSES, IMAGE, word};

/// A network as the text of a file: read again and built for the same images and classes, it is the same graph. Its last
/// layer gives as many values as there are classes, where it is dense.
pub fn network_text(graph: &Graph) -> String {
    let mut text = String::new();
    for (number, node) in graph.nodes.iter().enumerate() {
        let last = number + 1 == graph.nodes.len();
        let mut lines = vec![format!("name = {}", quoted(&node.name))];
        lines.insert(0, format!("op = \"{}\"", word(&node.op)));
        settings(&node.op, last, &mut lines);
        if node.inputs != [number as u32] {
            let name = |&value: &u32| match value {
                0 => quoted(IMAGE),
                _ => quoted(&graph.nodes[value as usize - 1].name),
            };
            lines.push(format!("inputs = [{}]", node.inputs.iter().map(name).collect::<Vec<_>>().join(", ")));
        }
        let gap = if number == 0 { "" } else { "\n" };
        writeln!(text, "{gap}[[layer]]\n{}", lines.join("\n")).expect("writing to a string cannot fail");
    }
    text
}

/// The settings of an operation that are not the default.
fn settings(op: &Op, last: bool, lines: &mut Vec<String>) {
    let no_bias = |bias: bool| (!bias).then(|| "bias = false".to_owned());
    match op {
        Op::Conv2d(conv) => {
            lines.push(format!("filters = {}", conv.filters));
            lines.push(format!("kernel = {}", pair(conv.kernel)));
            lines.extend((conv.stride != [1; 2]).then(|| format!("stride = {}", pair(conv.stride))));
            lines.extend((conv.dilation != [1; 2]).then(|| format!("dilation = {}", pair(conv.dilation))));
            lines.extend(padding(conv.padding));
            lines.extend((conv.groups != 1).then(|| format!("groups = {}", conv.groups)));
            lines.extend(no_bias(conv.bias));
        }
        Op::Dense(dense) => {
            let units = if last { quoted(CLASSES) } else { dense.units.to_string() };
            lines.push(format!("units = {units}"));
            lines.extend(no_bias(dense.bias));
        }
        Op::BatchNorm(norm) => {
            let default = BatchNorm::default();
            let momentum = norm.momentum != default.momentum;
            lines.extend(momentum.then(|| format!("momentum = {:?}", norm.momentum)));
            lines.extend((norm.eps != default.eps).then(|| format!("eps = {:?}", norm.eps)));
        }
        Op::Dropout { rate } => lines.push(format!("rate = {rate:?}")),
        Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => window(pool, lines),
        Op::Activation(Activation::LeakyRelu { slope }) => lines.push(format!("slope = {slope:?}")),
        Op::Activation(Activation::Clip { min, max }) => {
            lines.extend(min.is_finite().then(|| format!("min = {min:?}")));
            lines.extend(max.is_finite().then(|| format!("max = {max:?}")));
        }
        Op::ChannelGather { channels } => lines.push(format!("channels = {channels:?}")),
        Op::Activation(_)
        | Op::GlobalAvgPool
        | Op::GlobalMaxPool
        | Op::Flatten
        | Op::Add
        | Op::Concat
        | Op::ChannelScale => {}
    }
}

fn window(pool: &Pool2d, lines: &mut Vec<String>) {
    lines.push(format!("kernel = {}", pair(pool.kernel)));
    lines.extend((pool.stride != pool.kernel).then(|| format!("stride = {}", pair(pool.stride))));
    lines.extend(padding(pool.padding));
}

fn pair([height, width]: [u32; 2]) -> String {
    if height == width { height.to_string() } else { format!("[{height}, {width}]") }
}

fn padding(padding: Padding) -> Option<String> {
    match padding {
        Padding::Valid => None,
        Padding::Same => Some("padding = \"same\"".to_owned()),
        Padding::Explicit(sides) if sides == [sides[0]; 4] => Some(format!("padding = {}", sides[0])),
        Padding::Explicit([above, below, left, right]) => {
            Some(format!("padding = [{above}, {below}, {left}, {right}]"))
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
