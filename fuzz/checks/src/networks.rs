//! Files of networks.

use ocelli_engine::{Graph, Shape, zoo};
use ocelli_pipeline::{NetworkFile, network_text};

use crate::says_something;

/// A network that is read is the same after being written and read again.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match NetworkFile::parse("net.toml", text.to_owned()) {
        Err(error) => says_something(&error),
        Ok(network) => {
            for (input, classes) in [(Shape::new(32, 32, 3), 10), (Shape::new(28, 30, 1), 2)] {
                match network.build(input, classes) {
                    Err(error) => says_something(&error),
                    Ok(graph) => assert_eq!(read_again(&graph, classes), graph),
                }
            }
        }
    }
}

fn read_again(graph: &Graph, classes: usize) -> Graph {
    let text = network_text(graph);
    let network = NetworkFile::parse("again.toml", text.clone()).unwrap_or_else(|e| panic!("{e}: {text}"));
    network.build(graph.input, classes).unwrap_or_else(|e| panic!("{e}: {text}"))
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let text = |name: &&str| {
        network_text(&zoo::build(name, Shape::new(32, 32, 3), 10).expect("both networks take this size"))
            .into_bytes()
    };
    let branches = "[[layer]]\nop = \"conv2d\"\nname = \"a\"\nfilters = \"classes\"\nkernel = [1, 2]\npadding = \"same\"\n\
        [[layer]]\nop = \"sigmoid\"\n[[layer]]\nop = \"concat\"\ninputs = [\"a\", \"sigmoid_2\", \"input\"]\n\
        [[layer]]\nop = \"flatten\"\n[[layer]]\nop = \"dropout\"\nrate = 0.5\n\
        [[layer]]\nop = \"dense\"\nunits = \"classes\"\nbias = false\n";
    let mut seeds: Vec<Vec<u8>> = ["keras-cnn", "resnet9"].iter().map(text).collect();
    seeds.push(branches.as_bytes().to_vec());
    seeds
}
