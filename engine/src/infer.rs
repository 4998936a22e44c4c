//! Inference: a model compiled for batches of images.

use ndarray::{Array2, ArrayView4};

use crate::error::EngineError;
use crate::exec::{Exec, Mode};
use crate::geometry::Shape;
use crate::parallel::Wait;
use crate::params::{Model, ParamLayout};
use crate::plan::{Plan, PlanMemory, StepState};
use crate::quantization::Quantization;
use crate::train::{check_batch, check_images};

/// Multiply-adds of a pass that is over before helpers that sleep are awake, which takes them 30 to 50 us: a single image of
/// the tutorial CNN, 2.4 million, takes one thread 20 us, and to ask for help with it costs another 3.
const ALONE: usize = 6_000_000;

/// A model ready to answer. An image's logits have the same bits in a batch of any size, at any place in it.
pub struct Inference {
    plan: Plan,
    input: Shape,
    params: Vec<f32>,
}

impl Inference {
    /// Compiles a model for batches of up to `batch` images.
    ///
    /// # Errors
    /// Those of [`Plan::compile`].
    pub fn new(model: &Model, batch: usize, exec: &Exec) -> Result<Self, EngineError> {
        Inference::keeping(model, &[], batch, exec)
    }

    /// As [`Inference::new`], for a network whose [inner values](crate::Graph::inner_values) are wanted, too: the
    /// `values` among them.
    ///
    /// # Errors
    /// Those of [`Plan::compile`]; [`EngineError::Config`] for a value that is none of them.
    pub fn keeping(model: &Model, values: &[usize], batch: usize, exec: &Exec) -> Result<Self, EngineError> {
        Inference::quantized(model, None, values, batch, exec)
    }

    /// As [`Inference::keeping`], in 8 bits where a model has scales for it: about as exact as these make it, and the same
    /// bytes on every processor.
    ///
    /// # Errors
    /// As [`Inference::keeping`]; [`EngineError::Config`] for scales that do not belong to the model.
    pub fn quantized(
        model: &Model,
        quantization: Option<&Quantization>,
        values: &[usize],
        batch: usize,
        exec: &Exec,
    ) -> Result<Self, EngineError> {
        let graph = model.graph();
        let inner = if values.is_empty() { Vec::new() } else { graph.inner_values() };
        if let Some(value) = values.iter().find(|value| !inner.contains(value)) {
            return Err(EngineError::Config(format!(
                "value {value} is no inner value of the network: {inner:?}"
            )));
        }
        let mut plan = Plan::compile_with(
            graph,
            (batch, Mode::Infer),
            (values, quantization),
            exec,
            ParamLayout::total,
        )?;
        plan.pack(model.params());
        Ok(Inference { plan, input: graph.input, params: model.params().to_vec() })
    }

    /// As [`Inference::new`], for a model that has [features](Inference::run_features).
    ///
    /// # Errors
    /// Those of [`Plan::compile`]; [`EngineError::Config`] for a network without a dense layer.
    pub fn with_features(model: &Model, batch: usize, exec: &Exec) -> Result<Self, EngineError> {
        model.graph().features().ok_or_else(no_features)?;
        Inference::new(model, batch, exec)
    }

    /// Logits `[n, classes]` of `n` images `x [n, h, w, c]`, normalised as the model was trained.
    ///
    /// # Errors
    /// [`EngineError::Shape`] for an empty or too large batch or a wrong number of floats.
    pub fn run(&mut self, x: &[f32], n: usize, logits: &mut [f32]) -> Result<(), EngineError> {
        self.pass(x, n, Outputs { logits, features: &mut [], inner: &mut [] })
    }

    /// Logits `[n, classes]` and features `[n, feature_len]` of `n` images `x [n, h, w, c]`, from one pass: features are
    /// what the last dense layer reads, and have the same bits in a batch of any size, too.
    ///
    /// # Errors
    /// [`EngineError::Shape`] for an empty or too large batch or a wrong number of floats; [`EngineError::Config`] for a
    /// network without a dense layer.
    pub fn run_features(
        &mut self,
        x: &[f32],
        n: usize,
        logits: &mut [f32],
        features: &mut [f32],
    ) -> Result<(), EngineError> {
        let len = self.plan.feature_len().ok_or_else(no_features)?;
        check_len("features", features, n.saturating_mul(len))?;
        self.pass(x, n, Outputs { logits, features, inner: &mut [] })
    }

    /// Logits, and whatever else has room in `outputs`, of `n` images `x [n, h, w, c]`, from one pass.
    ///
    /// # Errors
    /// As [`Inference::run_features`].
    pub fn run_outputs(&mut self, x: &[f32], n: usize, outputs: Outputs<'_>) -> Result<(), EngineError> {
        if !outputs.features.is_empty() {
            let len = self.plan.feature_len().ok_or_else(no_features)?;
            check_len("features", outputs.features, n.saturating_mul(len))?;
        }
        if !outputs.inner.is_empty() {
            check_len("inner values", outputs.inner, n.saturating_mul(self.inner_len()))?;
        }
        self.pass(x, n, outputs)
    }

    /// A pass that gives logits, and features and inner values where their slices are not empty.
    fn pass(&mut self, x: &[f32], n: usize, outputs: Outputs<'_>) -> Result<(), EngineError> {
        let Outputs { logits, mut features, inner } = outputs;
        let images = check_batch(&self.plan, x, n)?;
        check_len("logits", logits, images * self.plan.classes())?;
        let inner_len = self.inner_len();
        let mut inner = inner.chunks_mut((self.plan.chunk() * inner_len).max(1));
        let Inference { plan, params, .. } = self;
        let threads = plan.threads();
        let work = plan.work(images);
        // Helpers that wait in a loop are there at once.
        let is_short = work < ALONE && plan.exec().wait == Wait::Yield;
        threads.enter(if is_short { 0 } else { work }, || {
            let (chunk, len, classes) = (plan.chunk(), plan.input_len(), plan.classes());
            for (x, logits) in x.chunks(chunk * len).zip(logits.chunks_mut(chunk * classes)) {
                let images = logits.len() / classes;
                plan.input_mut(images).copy_from_slice(x);
                plan.forward(&mut StepState::of_inference(params, images));
                logits.copy_from_slice(plan.logits(images));
                if let Some(kept) = plan.features(images).filter(|_| !features.is_empty()) {
                    let (own, rest) = std::mem::take(&mut features).split_at_mut(kept.len());
                    own.copy_from_slice(kept);
                    features = rest;
                }
                if let Some(inner) = inner.next() {
                    pixel_means(plan, images, inner);
                }
            }
        });
        Ok(())
    }

    /// Logits `[n, classes]` of any number of images `x [n, h, w, c]`, in batches.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when an image does not have the network's shape.
    pub fn predict(&mut self, x: ArrayView4<f32>) -> Result<Array2<f32>, EngineError> {
        check_images(self.input, &x)?;
        let n = x.dim().0;
        let x = x.as_standard_layout();
        let x = x.as_slice().expect("a standard layout is one slice");
        let (batch, len, classes) = (self.plan.batch(), self.plan.input_len(), self.plan.classes());
        let mut logits = vec![0.0; n * classes];
        for (x, logits) in x.chunks((batch * len).max(1)).zip(logits.chunks_mut((batch * classes).max(1))) {
            self.run(x, logits.len() / classes, logits)?;
        }
        Ok(Array2::from_shape_vec((n, classes), logits).expect("as many logits as images and classes"))
    }

    /// Where it runs.
    pub fn exec(&self) -> &Exec {
        self.plan.exec()
    }

    /// Most images of a call.
    pub fn batch(&self) -> usize {
        self.plan.batch()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.plan.classes()
    }

    /// Length of an image's features; `None` for a network without a dense layer.
    pub fn feature_len(&self) -> Option<usize> {
        self.plan.feature_len()
    }

    /// Length of an image's inner values: the channels of those that are kept.
    pub fn inner_len(&self) -> usize {
        self.plan.kept().iter().map(|kept| kept.channels).sum()
    }

    /// Floats of one input image.
    pub fn input_len(&self) -> usize {
        self.plan.input_len()
    }

    /// What it takes: the plan and a copy of the parameters. The model itself comes on top.
    pub fn memory(&self) -> PlanMemory {
        self.plan.memory()
    }
}

/// Where a pass puts what it gives; what is not wanted is an empty slice.
pub struct Outputs<'a> {
    /// `[n, classes]`, always wanted.
    pub logits: &'a mut [f32],
    /// What the last dense layer reads, `[n, feature_len]`.
    pub features: &'a mut [f32],
    /// Mean over the pixels of each value that is kept, one behind the other: `[n, inner_len]`.
    pub inner: &'a mut [f32],
}

/// Means over pixels `[images][channels of all kept values]` of what the last pass left.
fn pixel_means(plan: &Plan, images: usize, out: &mut [f32]) {
    let row_len: usize = plan.kept().iter().map(|kept| kept.channels).sum();
    let mut first = 0;
    for kept in plan.kept() {
        let (pixels, channels) = (kept.pixels, kept.channels);
        let values = plan.kept_value(kept, images).chunks_exact(pixels * channels);
        for (image, row) in values.zip(out.chunks_exact_mut(row_len)) {
            let row = &mut row[first..][..channels];
            row.fill(0.0);
            for pixel in image.chunks_exact(channels) {
                row.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v);
            }
            row.iter_mut().for_each(|sum| *sum /= pixels as f32);
        }
        first += channels;
    }
}

fn no_features() -> EngineError {
    EngineError::Config("the network has no dense layer, whose input would be an image's features".to_owned())
}

pub(crate) fn check_len(what: &'static str, found: &[f32], expected: usize) -> Result<(), EngineError> {
    if found.len() != expected {
        let found = found.len().to_string();
        return Err(EngineError::Shape { what, expected: format!("{expected} floats"), found });
    }
    Ok(())
}

/// Probabilities of one row of logits.
///
/// # Panics
/// When the slices differ in length.
pub fn softmax(logits: &[f32], out: &mut [f32]) {
    crate::kernels::softmax::softmax(out, logits, logits.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::Pool;
    use crate::simd::Isa;
    use crate::zoo;

    #[test]
    fn short_passes_wake_no_helpers() {
        let (graph, _) = zoo::bench_net("keras-cnn-28").unwrap();
        let model = Model::init(graph, 1).unwrap();
        let x = vec![0.5; 8 * 28 * 28];
        let asked = |waits: bool, images: usize| {
            let pool = Pool::new(2).unwrap();
            let exec = Exec::with_pool(Isa::best().unwrap(), pool.clone());
            let exec = if waits { exec.latency() } else { exec };
            let mut inference = Inference::new(&model, 8, &exec).unwrap();
            let mut logits = vec![0.0; images * 10];
            inference.run(&x[..images * 28 * 28], images, &mut logits).unwrap();
            pool.helpers()
        };
        assert_eq!(asked(false, 1), 0);
        assert!(asked(false, 8) > 0);
        assert!(asked(true, 1) > 0);
    }
}
