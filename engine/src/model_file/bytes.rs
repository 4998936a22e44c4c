//! Bytes of a model file one after the other: what is written goes into its hash, what is read is known to be there.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::half::{from_f16, to_f16};
use crate::error::EngineError;

/// Sections and tensors start at multiples of this: one cache line, so a mapped file can be computed on in place.
const ALIGN: u64 = 64;

pub(super) fn error(reason: impl Into<String>) -> EngineError {
    EngineError::ModelFile { path: None, reason: reason.into() }
}

/// A graph error as an error of the file that holds the graph.
pub(super) fn invalid_network(cause: EngineError) -> EngineError {
    error(format!("the network cannot be: {cause}"))
}

pub(super) fn aligned(at: u64) -> u64 {
    at.next_multiple_of(ALIGN)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

pub(super) struct HashingWriter<'a, W> {
    out: &'a mut W,
    hash: Sha256,
    at: u64,
}

impl<'a, W: Write> HashingWriter<'a, W> {
    pub(super) fn new(out: &'a mut W) -> Self {
        HashingWriter { out, hash: Sha256::new(), at: 0 }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    pub(super) fn align(&mut self) -> io::Result<()> {
        let gap = aligned(self.at) - self.at;
        self.bytes(&[0; ALIGN as usize][..gap as usize])
    }

    pub(super) fn tensor(&mut self, values: &[f32]) -> io::Result<()> {
        self.align()?;
        let mut bytes = [0; 4096];
        for chunk in values.chunks(bytes.len() / 4) {
            let (slots, _) = bytes.as_chunks_mut::<4>();
            slots.iter_mut().zip(chunk).for_each(|(slot, value)| *slot = value.to_le_bytes());
            self.bytes(&bytes[..4 * chunk.len()])?;
        }
        Ok(())
    }

    pub(super) fn half_tensor(&mut self, values: &[f32]) -> io::Result<()> {
        self.align()?;
        let mut bytes = [0; 4096];
        for chunk in values.chunks(bytes.len() / 2) {
            let (slots, _) = bytes.as_chunks_mut::<2>();
            slots.iter_mut().zip(chunk).for_each(|(slot, value)| *slot = to_f16(*value).to_le_bytes());
            self.bytes(&bytes[..2 * chunk.len()])?;
        }
        Ok(())
    }

    /// Writes the hash of all bytes so far, and returns it.
    pub(super) fn finish(self) -> io::Result<[u8; 32]> {
        let hash: [u8; 32] = self.hash.finalize().into();
        self.out.write_all(&hash)?;
        Ok(hash)
    }
}

pub(super) fn ends_early() -> EngineError {
    error("the file ends before its content does: make or copy it again")
}

/// A place in the bytes; every step is checked against their end.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The place `at` in `bytes`.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Cursor { bytes, at }
    }

    /// Bytes that are behind it.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// All bytes, read or not.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], EngineError> {
        let rest = &self.bytes[self.at..];
        let len = usize::try_from(len).ok().filter(|&len| len <= rest.len()).ok_or_else(ends_early)?;
        self.at += len;
        Ok(&rest[..len])
    }

    /// Steps over the zeros before the next multiple of [`ALIGN`].
    pub(super) fn align(&mut self) -> Result<(), EngineError> {
        let at = self.at;
        let gap = self.take(aligned(at as u64) - at as u64)?;
        match gap.iter().position(|&byte| byte != 0) {
            Some(offset) => Err(error(format!("the filler byte at {} is not zero", at + offset))),
            None => Ok(()),
        }
    }

    pub(super) fn tensor(&mut self, values: &mut [f32]) -> Result<(), EngineError> {
        self.align()?;
        let (words, _) = self.take(4 * values.len() as u64)?.as_chunks::<4>();
        values.iter_mut().zip(words).for_each(|(value, word)| *value = f32::from_le_bytes(*word));
        Ok(())
    }

    pub(super) fn half_tensor(&mut self, values: &mut [f32]) -> Result<(), EngineError> {
        self.align()?;
        let (words, _) = self.take(2 * values.len() as u64)?.as_chunks::<2>();
        values.iter_mut().zip(words).for_each(|(value, word)| *value = from_f16(u16::from_le_bytes(*word)));
        Ok(())
    }
}
