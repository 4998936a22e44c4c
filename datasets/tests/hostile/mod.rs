//! Files that were made to do harm, byte by byte, so that tests of every crate can send the same ones. Each comes with a part of what its refusal must say.
#![allow(dead_code, reason = "each test binary takes what it needs")]

pub(crate) mod images;
pub(crate) mod zips;

pub(crate) use ocelli_testing::zip::crc32;

/// Zeros in deflate's fixed code (RFC 1951, 3.2.6): one literal, then matches of 258 at distance 1, at 13 bits each.
/// This is as dense as the fixed code gets: 158 to 1.
pub(crate) fn deflated_zeros(matches: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::with_capacity(20 + 13 * matches);
    let mut code = |value: u32, length: u32| bits.extend((0..length).rev().map(|at| value >> at & 1 == 1));
    // Last block, fixed codes; numbers come lowest bit first, codes highest bit first.
    code(0b110, 3);
    code(0b0011_0000, 8);
    for _ in 0..matches {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    code(0, 7);
    bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |value, &bit| value << 1 | u8::from(bit))).collect()
}

/// How many zeros [`deflated_zeros`] stands for.
pub(crate) fn zeros(matches: usize) -> usize {
    1 + 258 * matches
}
