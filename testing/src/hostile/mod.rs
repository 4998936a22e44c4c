//! Files that were made to do harm, byte by byte: tests of every crate send the same ones, and so does the load test to a
//! service that its user wants to try.

pub mod images;
pub mod zips;
