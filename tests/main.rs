//! End to end: the real program on real files. One binary, so that it links once.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are tests too; clippy only sees the functions marked so"
)]

// What every test stands on: folders of its own, running the program, making pictures, speaking HTTP.
mod http_client;
mod shapes;
mod support;

// Photos to a trained model to predictions.
mod photos;
// How good a model is, beside another one, and whether a run can be repeated.
mod evaluation;
// A table of labels to a model that says several of an image.
mod labels;
// What folders of photos hold, and files that are no images.
mod predict;
// Models that answer in 8 bits.
mod quantize;
// Models of other programs, in and out.
mod exchange;
// Training and answering in bf16.
mod precision;
// Features of images: written out, compared, doubted.
mod embed;
// What in images speaks for a class: pictures, text, lines.
mod explain;
// Data sets looked over before they are trained on.
mod inspect;
// Further classes for a model that is trained already.
mod add_classes;
// How a training is shown: a screen, event files.
mod views;
// Kill, interrupt, resume: the same bits.
mod resume;
// Several processes that train one model.
mod ranks;
// Networks of people's own, from a file.
mod own_network;
// Bad input: one line that says what is wrong and what to do.
mod bad_input;
// What commands print, to whom, and with which exit code.
mod habits;
// The server, over TCP.
mod serve;
// The service under faults: its whole loop, hostile input, kills, load, slow clients, keys, its end.
mod service;
// The files for containers, clusters, balancers and machines.
mod deploy;
// The load test, against the server and against services that misbehave.
mod flood;
// Hostile requests as operators play them against their own service.
mod abuse;
// The rules of ARCHITECTURE.md that a look at the sources can prove.
mod architecture;
// The instruction sets that tests of the engine run on.
#[path = "../engine/tests/instruction_sets/mod.rs"]
mod instruction_sets;
// The same bits with any number of threads.
mod determinism;
// Training trajectories against PyTorch.
mod golden;
// Gradients of whole networks against finite differences.
mod gradients;
