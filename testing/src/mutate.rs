//! Damage to files: what disks, networks and people with bad intentions make of them.

use ocelli_common::random::SplitMix64;

/// Numbers that formats tend to believe: lengths, counts and offsets.
const LIES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// A damaged copy of `whole`, by one to four of: bits that flip, bytes that change, an end that is missing, a piece of `whole`
/// or of `other` put somewhere, a piece left out, a number replaced by an extreme one (as little-endian or as a varint of
/// protobuf).
pub fn mutated(rng: &mut SplitMix64, whole: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..1 + rng.below(4) {
        once(rng, &mut bytes, other);
    }
    bytes
}

fn once(rng: &mut SplitMix64, bytes: &mut Vec<u8>, other: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.below(bytes.len());
    match rng.below(8) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.below(256) as u8,
        2 => bytes.truncate(at),
        3 => {
            let piece = piece(rng, other);
            bytes.splice(at..at, piece);
        }
        4 => {
            let piece = piece(rng, other);
            let end = (at + piece.len()).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        5 => {
            let end = (at + 1 + rng.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            let lie = LIES[rng.below(LIES.len())].to_le_bytes();
            let width = [1, 2, 4, 8][rng.below(4)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&lie[..width]);
        }
        _ => {
            let end = at + bytes[at..].iter().take_while(|&&byte| byte >= 0x80).count().min(9);
            let end = (end + 1).min(bytes.len());
            bytes.splice(at..end, varint(LIES[rng.below(LIES.len())]));
        }
    }
}

/// Up to 64 bytes from somewhere in `from`.
fn piece(rng: &mut SplitMix64, from: &[u8]) -> Vec<u8> {
    if from.is_empty() {
        return Vec::new();
    }
    let start = rng.below(from.len());
    let end = (start + 1 + rng.below(64)).min(from.len());
    from[start..end].to_vec()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_repeatable_and_of_every_kind() {
        let whole: Vec<u8> = (0..200).map(|i| i as u8).collect();
        let of = |seed| mutated(&mut SplitMix64(seed), &whole, &[7; 90]);
        let all: Vec<Vec<u8>> = (0..500).map(of).collect();
        assert_eq!(all[3], of(3));
        assert!(all.iter().any(|bytes| bytes.len() < 100) && all.iter().any(|bytes| bytes.len() > 210));
        assert!(all.iter().filter(|bytes| **bytes == whole).count() < 10);
        assert!(mutated(&mut SplitMix64(1), &[], &[]).is_empty());
    }
}
