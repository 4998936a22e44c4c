//! Finding the scales of a [`Quantization`]: what a trained network's values are like on some images, and which choices
//! leave its logits as they were.
//!
//! 1. The network in f32 answers the images twice: for the range of every channel of every value, then for a histogram of
//!    each value.
//! 2. Every value has some candidates for its range ([`Clip`]). Layers get scales for each of their filters, and corrections
//!    of their biases (Nagel et al., 2019).
//! 3. The quantised network answers some of the images, and what brings its logits nearer to those in f32 is kept: first one
//!    way for all values, then value by value.

mod ranges;
mod scales;

use crate::error::EngineError;
use crate::exec::{Exec, Mode};
use crate::infer::{Inference, check_len};
use crate::params::Model;
use crate::plan::{ByteStage, Plan, StepState, byte_stages};
use crate::quantization::Quantization;
pub use ranges::Clip;
use ranges::Statistics;
use scales::{Folded, Scales};

/// Images of a pass that keeps all values.
const BATCH: usize = 8;
/// Images on which choices are compared.
const COMPARED: usize = 64;

/// What was chosen for a whole network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The range of most values.
    pub clip: Clip,
    /// Whether channels between a depthwise convolution and a pointwise one are evened out.
    pub equalize: bool,
}

/// A network in f32, what it does on some images, and its quantisation so far.
pub struct Calibration<'a> {
    model: &'a Model,
    exec: Exec,
    stages: Vec<ByteStage>,
    statistics: Vec<Statistics>,
    folded: Vec<Folded>,
    /// The images on which choices are compared, and the logits in f32.
    images: &'a [f32],
    logits: Vec<f32>,
    choice: Choice,
    /// The range of each value of `statistics`.
    clips: Vec<Clip>,
    /// Nodes that stay in f32.
    floats: Vec<usize>,
    error: f64,
}

impl<'a> Calibration<'a> {
    /// Looks at a model on images `[n, h, w, c]`, normalised as it was trained, and chooses. `progress` hears of the part of
    /// the work that is done, and says whether to go on: `None` where it did not.
    ///
    /// # Errors
    /// [`EngineError::Shape`] for no images or parts of them, [`EngineError::Config`] for a network without a convolution,
    /// and those of [`Inference::new`].
    pub fn new(
        model: &'a Model,
        images: &'a [f32],
        exec: &Exec,
        mut progress: impl FnMut(f32) -> bool,
    ) -> Result<Option<Self>, EngineError> {
        let Some(mut calibration) = Calibration::look(model, images, exec, &mut progress)? else {
            return Ok(None);
        };
        let is_done = calibration.choose(&mut |part| progress(0.6 + 0.4 * part))?;
        Ok(is_done.then_some(calibration))
    }

    /// Looks at all values, and chooses nothing yet; `None` where `progress` ended it.
    fn look(
        model: &'a Model,
        images: &'a [f32],
        exec: &Exec,
        progress: &mut dyn FnMut(f32) -> bool,
    ) -> Result<Option<Self>, EngineError> {
        let graph = model.graph();
        let len = graph.input.len();
        let count = images.len() / len;
        check_len("images", images, count.max(1) * len)?;
        let stages = byte_stages(graph, exec)?;
        if !stages.iter().any(|stage| stage.convolution.is_some()) {
            return Err(EngineError::Config("the network has no convolution to quantise".to_owned()));
        }
        let mut statistics = Statistics::of(&stages, &graph.shapes()?);
        let values: Vec<usize> = statistics.iter().map(|own| own.value).collect();
        for (round, start) in [(0, 0.0), (1, 0.3)] {
            let mut watch = Watch::new(model, &values, exec)?;
            for (i, batch) in images.chunks(BATCH * len).enumerate() {
                watch.see(batch, |own, value| match round {
                    0 => statistics[own].see_range(value),
                    _ => statistics[own].see_histogram(value),
                });
                let part = ((i + 1) * BATCH).min(count) as f32 / count as f32;
                if !progress(start + 0.3 * part) {
                    return Ok(None);
                }
            }
        }
        let compared = COMPARED.min(count);
        let images = &images[..compared * len];
        let classes = graph.classes()?;
        let mut logits = vec![0.0; compared * classes];
        answer(&mut Inference::new(model, BATCH, exec)?, images, &mut logits)?;
        Ok(Some(Calibration {
            model,
            exec: exec.clone(),
            folded: Folded::all(model, &stages, exec)?,
            stages,
            clips: vec![Clip::Extremes; statistics.len()],
            statistics,
            images,
            logits,
            choice: Choice { clip: Clip::Extremes, equalize: false },
            floats: Vec::new(),
            error: f64::INFINITY,
        }))
    }

    /// Scales by the extremes of all values on images `[n, h, w, c]`, without comparing: for measurements of time.
    ///
    /// # Errors
    /// As [`Calibration::new`].
    pub fn quick(model: &'a Model, images: &'a [f32], exec: &Exec) -> Result<Quantization, EngineError> {
        let looked = Calibration::look(model, images, exec, &mut |_| true)?;
        Ok(looked.expect("nothing ends it").quantization())
    }

    /// What was chosen for most values.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// Mean squared difference of logits from those in f32, over their variance.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// Nodes that were left in f32, the most sensitive first.
    pub fn left_out(&self) -> &[usize] {
        &self.floats
    }

    /// The scales.
    pub fn quantization(&mut self) -> Quantization {
        let scales = Scales {
            stages: &self.stages,
            statistics: &self.statistics,
            clips: &self.clips,
            equalize: self.choice.equalize,
            floats: &self.floats,
        };
        scales.find(&mut self.folded)
    }

    /// Leaves the convolution in f32 whose bytes change the logits most; `false` if none is left.
    ///
    /// # Errors
    /// Those of [`Inference::new`].
    pub fn leave_out_one(&mut self) -> Result<bool, EngineError> {
        let convolutions = self.stages.iter().filter_map(|stage| Some(stage.convolution.as_ref()?.node));
        let nodes: Vec<usize> = convolutions.filter(|node| !self.floats.contains(node)).collect();
        let mut best: Option<(f64, usize)> = None;
        for node in nodes {
            self.floats.push(node);
            let error = self.measure()?;
            self.floats.pop();
            if best.is_none_or(|(least, _)| error < least) {
                best = Some((error, node));
            }
        }
        let Some((error, node)) = best else { return Ok(false) };
        self.floats.push(node);
        self.error = error;
        Ok(true)
    }

    /// One way for all values, then another for those where it is better; `false` where `progress` ended it.
    fn choose(&mut self, progress: &mut dyn FnMut(f32) -> bool) -> Result<bool, EngineError> {
        let clips = [Clip::Extremes, Clip::SquaredError, Clip::Percentile];
        let steps = (2 * clips.len() + 2 * self.clips.len()) as f32;
        let mut step = 0.0;
        let mut report = move || {
            step += 1.0;
            progress(step / steps)
        };
        let mut best = (f64::INFINITY, self.choice);
        for equalize in [false, true] {
            for clip in clips {
                self.set(Choice { clip, equalize });
                let error = self.measure()?;
                if error < best.0 {
                    best = (error, self.choice);
                }
                if !report() {
                    return Ok(false);
                }
            }
        }
        self.set(best.1);
        self.error = best.0;
        for own in 0..self.clips.len() {
            for clip in clips.into_iter().filter(|&clip| clip != best.1.clip) {
                let before = std::mem::replace(&mut self.clips[own], clip);
                let error = self.measure()?;
                if error < self.error {
                    self.error = error;
                } else {
                    self.clips[own] = before;
                }
                if !report() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn set(&mut self, choice: Choice) {
        self.choice = choice;
        self.clips.fill(choice.clip);
    }

    /// The error of the quantisation as it is.
    fn measure(&mut self) -> Result<f64, EngineError> {
        let quantization = self.quantization();
        let mut inference = Inference::quantized(self.model, Some(&quantization), &[], BATCH, &self.exec)?;
        let mut logits = vec![0.0; self.logits.len()];
        answer(&mut inference, self.images, &mut logits)?;
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / self.logits.len() as f64;
        let centre = mean(&mut self.logits.iter().map(|&x| f64::from(x)));
        let variance = mean(&mut self.logits.iter().map(|&x| (f64::from(x) - centre).powi(2)));
        let pairs = self.logits.iter().zip(&logits);
        let difference = mean(&mut pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)));
        Ok(difference / variance.max(f64::MIN_POSITIVE))
    }
}

/// Logits of all images, in batches.
fn answer(inference: &mut Inference, images: &[f32], logits: &mut [f32]) -> Result<(), EngineError> {
    let (len, classes) = (inference.input_len(), inference.classes());
    for (x, logits) in images.chunks(BATCH * len).zip(logits.chunks_mut(BATCH * classes)) {
        inference.run(x, logits.len() / classes, logits)?;
    }
    Ok(())
}

/// A network in f32 that keeps some values.
struct Watch {
    plan: Plan,
    params: Vec<f32>,
}

impl Watch {
    fn new(model: &Model, values: &[usize], exec: &Exec) -> Result<Self, EngineError> {
        let what = (BATCH, Mode::Infer);
        let inner: Vec<usize> = values.iter().copied().filter(|&value| value > 0).collect();
        let mut plan = Plan::compile_with(model.graph(), what, (&inner, None), exec, |own| own.total())?;
        plan.pack(model.params());
        Ok(Watch { plan, params: model.params().to_vec() })
    }

    /// `see(i, value)` for the input, which is number 0, and every value that is kept, of some images.
    fn see(&mut self, images: &[f32], mut see: impl FnMut(usize, &[f32])) {
        let Watch { plan, params } = self;
        let len = plan.input_len();
        for x in images.chunks(plan.chunk() * len) {
            let images = x.len() / len;
            let threads = plan.threads();
            threads.enter(plan.work(images), || {
                plan.input_mut(images).copy_from_slice(x);
                plan.forward(&mut StepState::of_inference(params, images));
            });
            see(0, x);
            for (own, kept) in plan.kept().iter().enumerate() {
                see(own + 1, plan.kept_value(kept, images));
            }
        }
    }
}

#[cfg(test)]
mod tests;
