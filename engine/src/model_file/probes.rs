//! The probe section: a few images with the model's own answers, so that whoever loads the file can ask again.
//!
//! The hash of a file says that its bytes are those that were written. It does not say that they were right, nor that
//! this machine computes with them what the machine that wrote them did. A forward pass over the probes does.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::bytes::{Cursor, HashingWriter, aligned, ends_early, error, u64_at};
use super::contents::{MAX_PROBES, ModelFile, Probe, Probes};
use crate::error::EngineError;

/// Number of probes and hash of the model that was asked.
const START_BYTES: u64 = 8 + 32;

impl ModelFile {
    /// SHA-256 of what an answer depends on beside the layers: class names, fit, means and deviations as the header holds
    /// them, then the floats of all tensors without filler. Stored when the answers are given, it finds what changed
    /// between then and the writing, in weights that no probe image touches, too.
    pub fn answering_hash(&self) -> [u8; 32] {
        let (mut hash, meta) = (Sha256::new(), &self.meta);
        hash.update((meta.classes.len() as u64).to_le_bytes());
        for name in &meta.classes {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
        }
        hash.update((meta.preprocessing.fit as u32).to_le_bytes());
        for values in [&meta.preprocessing.mean, &meta.preprocessing.std] {
            hash.update((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| hash.update(value.to_le_bytes()));
        }
        let mut bytes = [0; 4096];
        for entry in self.model.layout().entries() {
            for chunk in self.model.params()[entry.range()].chunks(bytes.len() / 4) {
                let slots = bytes.as_chunks_mut::<4>().0.iter_mut();
                slots.zip(chunk).for_each(|(slot, value)| *slot = value.to_le_bytes());
                hash.update(&bytes[..4 * chunk.len()]);
            }
        }
        hash.finalize().into()
    }
}

/// What must hold between the probes and the rest of a file.
pub(super) fn check(file: &ModelFile, probes: &Probes) -> Result<(), EngineError> {
    check_count(probes.images.len() as u64)?;
    let (pixels, classes) = (file.model.graph().input.len(), file.meta.classes.len());
    for (index, probe) in probes.images.iter().enumerate() {
        let (found, answers) = (probe.pixels.len(), probe.logits.len());
        if found != pixels || answers != classes {
            return Err(error(format!(
                "probe image {index} has {found} values and {answers} logits, the network {pixels} and {classes}"
            )));
        }
        check_logits(index, &probe.logits)?;
    }
    Ok(())
}

fn check_count(count: u64) -> Result<(), EngineError> {
    if !(1..=MAX_PROBES as u64).contains(&count) {
        return Err(error(format!("{count} probe images, not 1 to {MAX_PROBES}")));
    }
    Ok(())
}

fn check_logits(index: usize, logits: &[f32]) -> Result<(), EngineError> {
    if !logits.iter().all(|logit| logit.is_finite()) {
        return Err(error(format!("the answer for probe image {index} is not finite")));
    }
    Ok(())
}

/// Where the section of `count` probes ends that begins at or after `end`.
pub(super) fn end(end: u64, count: usize, (pixels, classes): (usize, usize)) -> u64 {
    (0..count)
        .fold(aligned(end) + START_BYTES, |at, _| aligned(aligned(at) + pixels as u64) + 4 * classes as u64)
}

pub(super) fn write<W: Write>(probes: &Probes, out: &mut HashingWriter<'_, W>) -> io::Result<()> {
    out.align()?;
    out.bytes(&(probes.images.len() as u64).to_le_bytes())?;
    out.bytes(&probes.asked)?;
    for probe in &probes.images {
        out.align()?;
        out.bytes(&probe.pixels)?;
        out.tensor(&probe.logits)?;
    }
    Ok(())
}

/// Reads the section of a network with `pixels` values of input and `classes` logits.
pub(super) fn read(cursor: &mut Cursor<'_>, pixels: usize, classes: usize) -> Result<Probes, EngineError> {
    cursor.align()?;
    let start = cursor.at() as u64;
    let count = u64_at(cursor.take(8)?, 0);
    check_count(count)?;
    let asked = cursor.take(32)?.try_into().expect("a slice of 32 bytes");
    // Images get memory only after all of them are known to be there.
    if end(start, count as usize, (pixels, classes)) > cursor.len() as u64 {
        return Err(ends_early());
    }
    let images = (0..count as usize).map(|index| {
        cursor.align()?;
        let pixels = cursor.take(pixels as u64)?.to_vec();
        let mut logits = vec![0.0; classes];
        cursor.tensor(&mut logits)?;
        check_logits(index, &logits)?;
        Ok(Probe { pixels, logits })
    });
    Ok(Probes { asked, images: images.collect::<Result<_, EngineError>>()? })
}
