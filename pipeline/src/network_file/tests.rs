use ocelli_engine::{Graph, Shape, zoo};

use super::layer::OPERATIONS;
use super::*;
use crate::error::PipelineError;

fn parse(text: &str) -> Result<NetworkFile, PipelineError> {
    NetworkFile::parse("net.toml", text.to_owned())
}

fn build(text: &str, input: Shape, classes: usize) -> Result<Graph, PipelineError> {
    parse(text)?.build(input, classes)
}

/// The error of a text, which must be one line and a usage error.
fn refused(text: &str, classes: usize) -> String {
    let error = build(text, Shape::new(28, 28, 1), classes).unwrap_err();
    assert!(error.is_usage());
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

const HEAD: &str = "[[layer]]\nop = \"global_avg_pool\"\n[[layer]]\nop = \"dense\"\nunits = \"classes\"\n";

#[test]
fn every_built_in_network_survives_being_written_and_read() {
    for name in zoo::NAMES {
        for (input, classes) in [(Shape::new(64, 96, 3), 10), (Shape::new(224, 224, 1), 2)] {
            let graph = zoo::build(name, input, classes).unwrap();
            let text = network_text(&graph);
            assert_eq!(build(&text, input, classes).unwrap(), graph, "{name}\n{text}");
            // Written for one number of classes, it serves for another.
            assert_eq!(build(&text, input, 7).unwrap(), zoo::build(name, input, 7).unwrap(), "{name}");
        }
    }
}

#[test]
fn every_operation_is_read_and_written_with_all_of_its_settings() {
    let text = r#"
[[layer]]
op = "conv2d"
filters = 8
kernel = [3, 5]
stride = [1, 2]
padding = [1, 2, 3, 4]
dilation = 2
groups = 1
bias = false
[[layer]]
op = "batch_norm"
momentum = 0.01
eps = 1e-3
[[layer]]
op = "relu"
[[layer]]
op = "relu6"
[[layer]]
op = "gelu"
[[layer]]
op = "silu"
[[layer]]
op = "hard_sigmoid"
[[layer]]
op = "hard_swish"
[[layer]]
op = "tanh"
[[layer]]
op = "leaky_relu"
slope = 0.125
[[layer]]
op = "clip"
min = -2
max = 3.5
[[layer]]
op = "channel_gather"
channels = [7, 0, 1, 2, 3, 4, 5, 6]
[[layer]]
op = "max_pool"
kernel = 3
stride = 1
padding = "same"
[[layer]]
op = "avg_pool"
kernel = 2
[[layer]]
name = "trunk"
op = "conv2d"
filters = 8
kernel = 1
[[layer]]
op = "add"
inputs = ["trunk", "avg_pool_14"]
[[layer]]
name = "both"
op = "concat"
inputs = ["trunk", "add_16"]
[[layer]]
op = "global_avg_pool"
[[layer]]
op = "dense"
units = 16
bias = false
[[layer]]
name = "gate"
op = "sigmoid"
[[layer]]
op = "channel_scale"
inputs = ["both", "gate"]
[[layer]]
op = "global_max_pool"
[[layer]]
op = "flatten"
[[layer]]
op = "dropout"
rate = 0.25
[[layer]]
op = "dense"
units = "classes"
"#;
    let input = Shape::new(28, 28, 1);
    let graph = build(text, input, 5).unwrap();
    assert_eq!(graph.classes().unwrap(), 5);
    let written = network_text(&graph);
    assert_eq!(build(&written, input, 5).unwrap(), graph, "{written}");
    for (word, settings) in OPERATIONS {
        assert!(text.contains(&format!("op = \"{word}\"")), "{word} is not tried");
        for setting in settings {
            assert!(text.contains(&format!("\n{setting} = ")), "{word}: {setting} is not tried");
        }
    }
}

#[test]
fn a_convolution_may_give_the_logits() {
    let text =
        "[[layer]]\nop = \"conv2d\"\nfilters = \"classes\"\nkernel = 1\n[[layer]]\nop = \"global_avg_pool\"";
    assert_eq!(build(text, Shape::new(8, 8, 3), 6).unwrap().classes().unwrap(), 6);
    assert_eq!(parse(text).unwrap().smallest_input(), 1);
}

#[test]
fn errors_name_line_layer_operation_and_what_to_do() {
    let conv = "[[layer]]\nop = \"conv2d\"\nfilters = 8\nkernel = 3\n";
    let cases: [(String, &str); 22] = [
        (
            format!("{conv}[[layer]]\nname = \"fc\"\nop = \"dense\"\nunits = \"classes\"\n"),
            "net.toml line 7, layer 2 `fc` (dense): needs a flat input, found 26x26x8: put a flatten or global pool before it",
        ),
        (
            "[[layer]]\nop = \"global_avg_pool\"\n[[layer]]\nop = \"dense\"\nunits = 10\n".to_owned(),
            "net.toml line 4, layer 2 `dense_2` (dense): the last layer gives 10 values, and there are 3 classes: give it \
             units = \"classes\"",
        ),
        (format!("{conv}{conv}[[layer]]\nop = \"add\"\ninputs = [\"conv2d_1\", \"conv2d_2\"]\n{HEAD}"), {
            "net.toml line 10, layer 3 `add_3` (add): adds 26x26x8 and 24x24x8: shapes differ"
        }),
        (
            format!("[[layer]]\nop = \"max_pool\"\nkernel = 99\n{HEAD}"),
            "net.toml line 2, layer 1 `max_pool_1` (max_pool): a window of 99 does not fit an input of 28 (+0+0 padding) (it reads \
             28x28x1)",
        ),
        (
            format!("[[layer]]\nop = \"conv2d\"\nfilters = 8\nkernel = 3\ngroups = 3\n{HEAD}"),
            "layer 1 `conv2d_1` (conv2d): 3 groups do not divide 1 input and 8 output channels",
        ),
        (
            "[[layer]]\nop = \"conv\"\n".to_owned(),
            "net.toml line 2, layer 1: `conv` is no operation; choose one of conv2d, batch_norm,",
        ),
        ("[[layer]]\nfilters = 3\n".to_owned(), "net.toml line 1, layer 1: has no `op`"),
        (
            "[[layer]]\nop = \"conv2d\"\nfilter = 3\nkernel = 3".to_owned(),
            "net.toml line 3, layer 1 (conv2d): has no setting `filter`; its settings: filters, kernel,",
        ),
        ("[[layer]]\nop = \"relu\"\nrate = 1".to_owned(), "has no setting `rate`; its settings: none"),
        (
            "[[layer]]\nop = \"conv2d\"\nkernel = 3".to_owned(),
            "line 1, layer 1 (conv2d): needs `filters`, e.g. filters = 64",
        ),
        ("[[layer]]\nop = \"max_pool\"".to_owned(), "needs a `kernel`, e.g. kernel = 3"),
        ("[[layer]]\nop = \"dropout\"".to_owned(), "needs a `rate`"),
        (
            "[[layer]]\nop = \"dense\"\nunits = -1".to_owned(),
            "`units` must be a whole number from 1 on, or \"classes\"",
        ),
        (
            "[[layer]]\nop = \"max_pool\"\nkernel = 2\npadding = \"half\"".to_owned(),
            "line 4, layer 1 (max_pool): `padding` must be \"same\", \"valid\", a number of pixels, or four",
        ),
        (
            "[[layer]]\nop = \"max_pool\"\nkernel = [2, 0]".to_owned(),
            "`kernel` must be a whole number from 1",
        ),
        (
            "[[layer]]\nop = \"add\"\ninputs = [\"x\"]".to_owned(),
            "line 3, layer 1 (add): reads `x`, which no layer",
        ),
        ("[[layer]]\nop = \"add\"".to_owned(), "layer 1 (add): needs 2 inputs, has 1: name them by `inputs`"),
        (
            format!("{conv}name = \"a\"\n{conv}name = \"a\"\n"),
            "line 10, layer 2 `a` (conv2d): another layer has",
        ),
        ("[[layer]]\nop = \"relu\"\nname = \"input\"".to_owned(), "`input` is what the image is called"),
        (format!("{conv}[[layer]]\nop = \"relu\"\ninputs = [\"input\"]\n{HEAD}"), {
            "net.toml line 2, layer 1 `conv2d_1` (conv2d): no layer reads its output"
        }),
        (conv.to_owned(), "the last layer must give flat logits, found 26x26x8"),
        (String::new(), "net.toml: no layers: write one [[layer]] for each"),
    ];
    for (text, expected) in cases {
        let message = refused(&text, 3);
        assert!(message.contains(expected), "{text}\n{message}\n{expected}");
    }
    let message = refused("[[layer]]\nop = relu", 3);
    assert!(message.starts_with("net.toml line 2: "), "{message}");
    let message = refused("[[layers]]\nop = \"relu\"", 3);
    assert!(message.contains("line 1: unknown field `layers`, expected `layer`"), "{message}");
}

#[test]
fn limits_hold() {
    let relus = |count: usize| "[[layer]]\nop=\"relu\"\n".repeat(count) + HEAD;
    assert!(build(&relus(4094), Shape::new(2, 2, 1), 2).is_ok());
    assert!(refused(&relus(4095), 2).contains("4097 layers are more than 4096"));
    let comment = format!("#{}\n", "x".repeat(MAX_NETWORK_TEXT as usize));
    assert!(refused(&(comment + HEAD), 2).contains("more than 1048576 bytes"));
    let long = format!("[[layer]]\nop = \"relu\"\nname = \"{}\"\n{HEAD}", "n".repeat(129));
    assert!(refused(&long, 2).contains("1 to 128 bytes"));
    let wide = "[[layer]]\nop = \"flatten\"\n[[layer]]\nop = \"dense\"\nunits = 65536\n".to_owned()
        + "[[layer]]\nop = \"dense\"\nunits = 65536\n[[layer]]\nop = \"dense\"\nunits = \"classes\"";
    assert!(refused(&wide, 2).contains("more than 2^28 parameters"));
}

#[test]
fn whatever_is_cut_off_or_changed_is_read_or_refused() {
    let graph = zoo::build("resnet9", Shape::new(32, 32, 3), 10).unwrap();
    let text = network_text(&graph);
    for end in (0..text.len()).step_by(7) {
        let _ = build(&text[..end], graph.input, 10);
    }
    let mut bytes = text.into_bytes();
    for at in (0..bytes.len()).step_by(11) {
        let kept = bytes[at];
        for byte in *b"0-\"[]=\n9" {
            bytes[at] = byte;
            let _ = build(std::str::from_utf8(&bytes).unwrap(), graph.input, 10);
        }
        bytes[at] = kept;
    }
}

#[test]
fn the_smallest_image_is_found_by_trying() {
    for name in zoo::NAMES {
        let text = network_text(&zoo::build(name, Shape::new(64, 64, 3), 10).unwrap());
        let least = zoo::smallest_input(name).unwrap();
        assert_eq!(parse(&text).unwrap().smallest_input() as usize, least, "{name}");
    }
}
