//! A model that answers, in the numbers that were asked for.

use ocelli_engine::model_file::{MAX_PROBES, ModelFile};
use ocelli_engine::{Exec, Inference, Precision};

use crate::error::PipelineError;
use crate::probes;

/// The numbers that a model answers with: bytes where they are asked for and it has scales for them, bf16 where that is asked
/// for, f32 else.
pub(crate) fn precision(file: &ModelFile, exec: &Exec) -> Precision {
    let has_scales = file.quantization.is_some();
    match exec.precision {
        Precision::Int8 if has_scales => Precision::Int8,
        Precision::Bf16 => Precision::Bf16,
        Precision::Auto | Precision::F32 | Precision::Int8 => Precision::F32,
    }
}

/// A model with the inner values `values`, after it has answered its probe images as when its file was written.
///
/// # Errors
/// Those of [`Inference::keeping`]; [`PipelineError::Probe`] for a model that answers otherwise.
pub(crate) fn open(
    file: &ModelFile,
    values: &[usize],
    batch: usize,
    exec: &Exec,
) -> Result<Inference, PipelineError> {
    let mut inference = compile(file, values, batch, exec)?;
    match precision(file, exec) {
        // Probes were answered in f32.
        Precision::Int8 | Precision::Bf16 if file.probes.is_some() => {
            let exec = exec.clone().precision(Precision::F32);
            probes::check(&mut Inference::new(&file.model, MAX_PROBES, &exec)?, file)?;
        }
        _ => probes::check(&mut inference, file)?,
    }
    Ok(inference)
}

/// As [`open`], without asking.
///
/// # Errors
/// Those of [`Inference::keeping`].
pub(crate) fn compile(
    file: &ModelFile,
    values: &[usize],
    batch: usize,
    exec: &Exec,
) -> Result<Inference, PipelineError> {
    let scales = file.quantization.as_ref().filter(|_| precision(file, exec) == Precision::Int8);
    Ok(Inference::quantized(&file.model, scales, values, batch, exec)?)
}
