//! Files that were made to do harm, byte by byte, so that tests of every crate can send the same ones. Each comes with a part of what its refusal must say.
#![allow(dead_code, reason = "each test binary takes what it needs")]

pub(crate) mod images;
pub(crate) mod zips;

pub(crate) use ocelli_testing::zip::{crc32, deflated_zeros, zeros};
