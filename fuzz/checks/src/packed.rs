//! Programs with a model behind their own bytes.

use ocelli_pipeline::{PipelineError, Program};
use sha2::{Digest, Sha256};

use crate::disk::with_files;
use crate::says_something;

/// What ends a program with a model: hash and length of the model, version, zeros and a mark.
const TRAILER_BYTES: usize = 64;
const HASH_BYTES: usize = 32;
const MARK: &[u8; 16] = b"ocelli packed \x1a\n";

pub(crate) fn check(data: &[u8]) {
    open(data);
    // With its hash made right, damage goes further.
    if let Some(repaired) = repaired(data) {
        open(&repaired);
    }
}

fn repaired(data: &[u8]) -> Option<Vec<u8>> {
    let end = data.len().checked_sub(TRAILER_BYTES).filter(|_| data.ends_with(MARK))?;
    let len = u64::from_le_bytes(data[end + HASH_BYTES..][..8].try_into().expect("eight bytes"));
    let start = end.checked_sub(usize::try_from(len).ok()?)?;
    let mut repaired = data.to_vec();
    repaired[end..][..HASH_BYTES].copy_from_slice(&Sha256::digest(&data[start..end]));
    Some(repaired)
}

fn open(data: &[u8]) {
    with_files(&[("program", data)], |folder| {
        let read = || -> Result<(), PipelineError> {
            let mut program = Program::open(&folder.join("program"))?;
            let mut again = Vec::new();
            program.write_with(b"model", &mut again).expect("a file of the stated length");
            assert!(again.ends_with(MARK) && again.len() <= data.len() + b"model".len() + TRAILER_BYTES);
            let packed = program.has_model();
            let model = program.model()?;
            assert_eq!(model.is_some(), packed);
            Ok(())
        };
        if let Err(error) = read() {
            says_something(&error);
        }
    });
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let model = include_bytes!("../../../engine/tests/golden/tiny.ocelli");
    // The header of a program in ELF without segments, and one with a section that ends behind it.
    let mut elf = [0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let mut section = [elf.as_slice(), &[0; 64], b"what the section holds"].concat();
    let end = section.len() as u64;
    section[40..48].copy_from_slice(&64u64.to_le_bytes());
    section[58..60].copy_from_slice(&64u16.to_le_bytes());
    section[60..62].copy_from_slice(&1u16.to_le_bytes());
    section[64 + 24..64 + 32].copy_from_slice(&128u64.to_le_bytes());
    section[64 + 32..64 + 40].copy_from_slice(&(end - 128).to_le_bytes());
    let script = [b"#!/bin/sh\n".as_slice(), &[b'#'; 64]].concat();
    let mut seeds = Vec::new();
    for program in [elf.to_vec(), section, script] {
        with_files(&[("program", &program)], |folder| {
            let mut packed = Vec::new();
            let mut opened = Program::open(&folder.join("program")).expect("a program without a model");
            opened.write_with(model, &mut packed).expect("a write to memory cannot fail");
            seeds.push(packed);
        });
        seeds.push(program);
    }
    seeds
}
