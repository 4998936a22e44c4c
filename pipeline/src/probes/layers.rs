//! Whether this machine computes a model as it is defined: every layer beside f64.

use ocelli_datasets::{Pixels, Prepare, Prepared};
use ocelli_engine::model_file::ModelFile;
use ocelli_engine::oracle::{LayerDifference, compare};
use ocelli_engine::rng::Rng;

use crate::compute::Compute;
use crate::error::PipelineError;

/// Images that are made up for a model without probes.
const MADE_UP: usize = 2;

/// What [`compare_layers`] found.
#[derive(Clone, Debug)]
pub struct LayerReport {
    /// The instruction set that was used.
    pub isa: &'static str,
    /// Images that went through the network.
    pub images: usize,
    /// Whether these are the probes of the file; made up from random numbers otherwise.
    pub probes: bool,
    /// Every layer, with the largest difference of any image.
    pub layers: Vec<LayerDifference>,
}

impl LayerReport {
    /// The first layer whose values differ by more than rounding explains.
    pub fn first_wrong(&self) -> Option<&LayerDifference> {
        self.layers.iter().find(|layer| !layer.is_explained())
    }
}

/// Runs the probe images of a model file (or made-up ones, where there are none) through the engine and through the same
/// network in f64, and compares the values of every layer.
///
/// # Errors
/// Those of compiling the network; [`PipelineError::Dataset`] for preprocessing that nothing can be prepared with.
pub fn compare_layers(file: &ModelFile, compute: Compute) -> Result<LayerReport, PipelineError> {
    let exec = compute.exec()?;
    let stored = stored(file)?;
    let probes = !stored.is_empty();
    let images = if probes { stored } else { made_up(file.model.graph().input.len()) };
    let mut layers: Vec<LayerDifference> = Vec::new();
    for image in &images {
        let found = compare(&file.model, image, &exec)?;
        match layers.is_empty() {
            true => layers = found,
            false => layers.iter_mut().zip(&found).for_each(|(layer, other)| layer.take_in(other)),
        }
    }
    Ok(LayerReport { isa: exec.isa.name(), images: images.len(), probes, layers })
}

/// The probe images of a file as inputs of its network.
fn stored(file: &ModelFile) -> Result<Vec<Vec<f32>>, PipelineError> {
    let Some(probes) = &file.probes else { return Ok(Vec::new()) };
    let pre = &file.meta.preprocessing;
    pre.validate()?;
    let of_shape = probes.images.iter().filter(|probe| probe.pixels.len() == pre.len());
    let input = |pixels: &[u8]| {
        let mut x = vec![0.0; pre.len()];
        pre.normalize(&Prepared { pixels: Pixels::U8(pixels.to_vec()) }, &mut x);
        x
    };
    Ok(of_shape.map(|probe| input(&probe.pixels)).collect())
}

/// Standard normal numbers: what normalised pixels are like.
fn made_up(len: usize) -> Vec<Vec<f32>> {
    let image = |stream| {
        let mut rng = Rng::new(0, stream);
        (0..len).map(|_| rng.normal()).collect()
    };
    (0..MADE_UP as u64).map(image).collect()
}
