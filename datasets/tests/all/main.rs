//! The crate through its public face, on real files. One binary, so that it links once.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod arrays;
mod caching;
mod channels;
mod damage;
mod decoding;
mod helpers;
mod images_in;
mod jpegs;
mod label_sets;
mod layouts;
mod orientation;
mod pngs;
mod preprocessing;
mod readings;
mod sets;
mod tables;
mod tiffs;
mod uploads;
mod zips;
