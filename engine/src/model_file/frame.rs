//! Where the parts of a model file lie, and the hash around them.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::bytes::{Cursor, HashingWriter, aligned, ends_early, error, invalid_network, u32_at, u64_at};
use super::codec::{self, MAX_MOMENTS, Tensor};
use super::contents::{ModelFile, TrainingState, WeightType};
use super::{check, probes};
use crate::error::EngineError;
use crate::params::{Model, ParamEntry, ParamKind, ParamLayout};
use crate::quantization::Quantization;

/// Newest version of the layout. All from 1 on are read; a model is written in the first that can hold it.
pub const FORMAT_VERSION: u32 = 8;
/// Largest model file in bytes: the largest network that the engine takes (2^28 floats) with both moments of Adam fits.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// A first byte that no text has and a last one that a text-mode copy changes, as in PNG.
const MAGIC: [u8; 8] = *b"\x89OCELLI\n";
/// Mark, version, flags, length of the header, length of the file.
pub(super) const FRAME_BYTES: usize = 32;
const HASH_BYTES: usize = 32;
/// No file is shorter than its frame and hash.
const SHORTEST: u64 = (FRAME_BYTES + HASH_BYTES) as u64;
/// Flag: a training section follows the tensors.
const HAS_TRAINING: u32 = 1;
/// Flag: a probe section follows. A reader that does not know it says that the program must be updated.
const HAS_PROBES: u32 = 2;

/// Flag: an int8 section comes last, likewise.
const HAS_QUANTIZATION: u32 = 4;

/// Whether a tensor is stored in f16.
fn is_half(entry: &ParamEntry, weights: WeightType) -> bool {
    weights == WeightType::F16 && entry.kind == ParamKind::Weight
}

/// Bytes of a tensor.
fn stored_bytes(entry: &ParamEntry, weights: WeightType) -> u64 {
    if is_half(entry, weights) { 2 * entry.len() as u64 } else { 4 * entry.len() as u64 }
}

/// Where a network's tensors laid out from `start` end.
fn tensors_end(start: u64, layout: &ParamLayout, weights: WeightType) -> u64 {
    layout.entries().iter().fold(start, |at, entry| aligned(at) + stored_bytes(entry, weights))
}

/// Where a moment laid out from `start` ends.
fn moment_end(start: u64, layout: &ParamLayout) -> u64 {
    trainable(layout).fold(start, |at, entry| aligned(at) + 4 * entry.len() as u64)
}

fn trainable(layout: &ParamLayout) -> impl Iterator<Item = &ParamEntry> {
    layout.entries().iter().filter(|entry| entry.kind.is_trainable())
}

/// The table that a network's tensors must have: in the order of the layout, as close as alignment allows.
fn table(layout: &ParamLayout, weights: WeightType) -> Vec<Tensor> {
    let mut end = 0;
    let row = |entry: &ParamEntry| {
        let offset = aligned(end);
        let bytes = stored_bytes(entry, weights);
        end = offset + bytes;
        let shape = entry.shape.iter().map(|&side| side as u64).collect();
        Tensor { name: entry.name.clone(), shape, offset, bytes }
    };
    layout.entries().iter().map(row).collect()
}

/// A model that was checked and whose records are encoded: ready to be written.
pub(super) struct Encoded<'a> {
    file: &'a ModelFile,
    version: u32,
    header: Vec<u8>,
    training: Option<Vec<u8>>,
    quantization: Option<Vec<u8>>,
    len: u64,
}

impl<'a> Encoded<'a> {
    pub(super) fn new(file: &'a ModelFile) -> Result<Self, EngineError> {
        let (graph, layout) = (file.model.graph(), file.model.layout());
        check::meta(graph, &file.meta)?;
        for entry in layout.entries() {
            let values = &file.model.params()[entry.range()];
            check::values("tensor", entry, values)?;
            if is_half(entry, file.weights) {
                check::exact_in_f16(entry, values)?;
            }
        }
        let header = codec::encode_header(graph, &file.meta, file.weights, &table(layout, file.weights))?;
        let mut end = tensors_end(aligned((FRAME_BYTES + header.len()) as u64), layout, file.weights);
        let mut training = None;
        if let Some(state) = &file.training {
            check_moments(state, layout)?;
            let record = codec::encode_training(state)?;
            let start = aligned(aligned(end) + 8 + record.len() as u64);
            end = state.moments.iter().fold(start, |at, _| moment_end(at, layout));
            training = Some(record);
        }
        if let Some(own) = &file.probes {
            probes::check(file, own)?;
            end = probes::end(end, own.images.len(), (graph.input.len(), file.meta.classes.len()));
        }
        let mut quantization = None;
        if let Some(own) = &file.quantization {
            own.check(graph).map_err(invalid_scales)?;
            let record = codec::encode_quantization(own)?;
            end = aligned(end) + 8 + record.len() as u64;
            quantization = Some(record);
        }
        let len = end + HASH_BYTES as u64;
        if len > MAX_FILE_BYTES {
            return Err(error(format!("{len} bytes are more than a model file may have, {MAX_FILE_BYTES}")));
        }
        let version = codec::version(graph, &file.meta, file.weights);
        Ok(Encoded { file, version, header, training, quantization, len })
    }

    /// Length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Writes the whole file and returns the hash that it ends with.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<[u8; 32]> {
        let (params, layout) = (self.file.model.params(), self.file.model.layout());
        let mut out = HashingWriter::new(out);
        let flag = |there: bool, flag: u32| if there { flag } else { 0 };
        let flags = flag(self.training.is_some(), HAS_TRAINING)
            | flag(self.file.probes.is_some(), HAS_PROBES)
            | flag(self.quantization.is_some(), HAS_QUANTIZATION);
        out.bytes(&MAGIC)?;
        out.bytes(&self.version.to_le_bytes())?;
        out.bytes(&flags.to_le_bytes())?;
        out.bytes(&(self.header.len() as u64).to_le_bytes())?;
        out.bytes(&self.len.to_le_bytes())?;
        out.bytes(&self.header)?;
        out.align()?;
        for entry in layout.entries() {
            let values = &params[entry.range()];
            if is_half(entry, self.file.weights) {
                out.half_tensor(values)?;
            } else {
                out.tensor(values)?;
            }
        }
        if let (Some(record), Some(state)) = (&self.training, &self.file.training) {
            out.align()?;
            out.bytes(&(record.len() as u64).to_le_bytes())?;
            out.bytes(record)?;
            out.align()?;
            for moment in &state.moments {
                for entry in trainable(layout) {
                    out.tensor(&moment[entry.range()])?;
                }
            }
        }
        if let Some(own) = &self.file.probes {
            probes::write(own, &mut out)?;
        }
        if let Some(record) = &self.quantization {
            out.align()?;
            out.bytes(&(record.len() as u64).to_le_bytes())?;
            out.bytes(record)?;
        }
        out.finish()
    }
}

fn check_moments(state: &TrainingState, layout: &ParamLayout) -> Result<(), EngineError> {
    if state.moments.len() > MAX_MOMENTS {
        return Err(too_many_moments(state.moments.len()));
    }
    for moment in &state.moments {
        if moment.len() != layout.trainable() {
            let (found, expected) = (moment.len(), layout.trainable());
            return Err(error(format!("a moment has {found} floats, the parameters have {expected}")));
        }
        for entry in trainable(layout) {
            check::values("optimiser state of", entry, &moment[entry.range()])?;
        }
    }
    Ok(())
}

fn too_many_moments(found: usize) -> EngineError {
    error(format!("{found} optimiser moments are more than {MAX_MOMENTS}"))
}

/// Checks mark, version and length of a file of `len` bytes that starts with `start`; returns its length.
pub(super) fn check_start(start: &[u8], len: u64) -> Result<usize, EngineError> {
    if !start.starts_with(&MAGIC) {
        let what =
            if len == 0 { "the file is empty" } else { "its first bytes are not those of an .ocelli file" };
        return Err(error(format!("not a model file: {what}")));
    }
    let cut_short = |expected: u64| {
        Err(error(format!("the file is cut short: {len} of {expected} bytes are there, copy it again")))
    };
    if start.len() < FRAME_BYTES {
        return cut_short(SHORTEST);
    }
    let version = u32_at(start, 8);
    if version > FORMAT_VERSION {
        return Err(error(format!(
            "format version {version} is newer than this program reads ({FORMAT_VERSION}): update ocelli"
        )));
    }
    if version == 0 {
        return Err(error(format!("format version {version} does not exist: copy the file again")));
    }
    let expected = u64_at(start, 24);
    if len > MAX_FILE_BYTES || expected > MAX_FILE_BYTES {
        let most = len.max(expected);
        return Err(error(format!("{most} bytes are more than a model file may have, {MAX_FILE_BYTES}")));
    }
    let expected = expected.max(SHORTEST);
    if len < expected {
        return cut_short(expected);
    }
    if len > expected {
        return Err(error(format!("{} bytes follow the end of the file: copy it again", len - expected)));
    }
    usize::try_from(len).map_err(|_| error(format!("{len} bytes do not fit into this machine's memory")))
}

/// Reads a whole file. The hash comes first, but nothing after it relies on it.
pub(super) fn read(bytes: &[u8]) -> Result<ModelFile, EngineError> {
    check_start(&bytes[..bytes.len().min(FRAME_BYTES)], bytes.len() as u64)?;
    let (body, hash) = bytes.split_at(bytes.len() - HASH_BYTES);
    if Sha256::digest(body)[..] != *hash {
        return Err(error("the file is damaged: its SHA-256 is not that of its content, copy it again"));
    }
    let flags = u32_at(body, 12);
    if flags & !(HAS_TRAINING | HAS_PROBES | HAS_QUANTIZATION) != 0 {
        return Err(error(format!("flags {flags:#x} are unknown: update ocelli")));
    }
    let mut cursor = Cursor::new(body, FRAME_BYTES);
    let header = codec::decode_header(cursor.take(u64_at(body, 16))?, u32_at(body, 8))?;
    check::meta(&header.graph, &header.meta)?;
    let layout = ParamLayout::new(&header.graph).map_err(invalid_network)?;
    check_table(&header.tensors, &table(&layout, header.weights))?;
    cursor.align()?;
    // The model's buffer has at most twice the size of its tensors in the file: they must be there before it is made.
    let end = tensors_end(cursor.at() as u64, &layout, header.weights);
    if end > body.len() as u64 {
        return Err(ends_early());
    }
    let pixels = header.graph.input.len();
    let mut model = Model::zeros(header.graph).map_err(invalid_network)?;
    for entry in layout.entries() {
        let values = &mut model.params_mut()[entry.range()];
        if is_half(entry, header.weights) {
            cursor.half_tensor(values)?;
        } else {
            cursor.tensor(values)?;
        }
        check::values("tensor", entry, values)?;
    }
    let training = if flags & HAS_TRAINING == 0 { None } else { Some(read_training(&mut cursor, &layout)?) };
    let probes = match flags & HAS_PROBES {
        0 => None,
        _ => Some(probes::read(&mut cursor, pixels, header.meta.classes.len())?),
    };
    let quantization = match flags & HAS_QUANTIZATION {
        0 => None,
        _ => Some(read_quantization(&mut cursor, &model)?),
    };
    if cursor.at() != body.len() {
        return Err(error("bytes follow the last section"));
    }
    Ok(ModelFile { model, weights: header.weights, meta: header.meta, training, probes, quantization })
}

fn read_quantization(cursor: &mut Cursor<'_>, model: &Model) -> Result<Quantization, EngineError> {
    cursor.align()?;
    let len = u64_at(cursor.take(8)?, 0);
    let quantization = codec::decode_quantization(cursor.take(len)?)?;
    quantization.check(model.graph()).map_err(invalid_scales)?;
    Ok(quantization)
}

/// Scales that are not those of the network.
fn invalid_scales(cause: EngineError) -> EngineError {
    error(cause.to_string())
}

fn check_table(found: &[Tensor], expected: &[Tensor]) -> Result<(), EngineError> {
    if let Some((f, e)) = found.iter().zip(expected).find(|(f, e)| f != e) {
        return Err(error(format!("the network needs tensor {e}, the table holds {f}")));
    }
    if found.len() != expected.len() {
        let (found, expected) = (found.len(), expected.len());
        return Err(error(format!("the network needs {expected} tensors, the table holds {found}")));
    }
    Ok(())
}

impl std::fmt::Display for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} ({} bytes at {})", self.name, self.shape, self.bytes, self.offset)
    }
}

fn read_training(cursor: &mut Cursor<'_>, layout: &ParamLayout) -> Result<TrainingState, EngineError> {
    cursor.align()?;
    let len = u64_at(cursor.take(8)?, 0);
    let (mut state, moments) = codec::decode_training(cursor.take(len)?)?;
    if moments > MAX_MOMENTS {
        return Err(too_many_moments(moments));
    }
    cursor.align()?;
    let end = (0..moments).fold(cursor.at() as u64, |at, _| moment_end(at, layout));
    if end > cursor.len() as u64 {
        return Err(ends_early());
    }
    for _ in 0..moments {
        let mut moment = vec![0.0; layout.trainable()];
        for entry in trainable(layout) {
            let values = &mut moment[entry.range()];
            cursor.tensor(values)?;
            check::values("optimiser state of", entry, values)?;
        }
        state.moments.push(moment);
    }
    Ok(state)
}
