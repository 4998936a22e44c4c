//! The crate through its public face, on real files. One binary, so that it links once.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod arrays;
mod damage;
mod decoding;
mod helpers;
mod jpegs;
mod layouts;
mod manifests;
mod orientation;
mod pngs;
mod preprocessing;
mod sets;
mod tiffs;
mod uploads;
mod zips;

#[path = "../hostile/mod.rs"]
mod hostile;
