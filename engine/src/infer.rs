//! Inference: a model compiled for batches of images.

use ndarray::{Array2, ArrayView4};

use crate::error::EngineError;
use crate::exec::{Exec, Mode};
use crate::geometry::Shape;
use crate::params::{Model, ParamLayout};
use crate::plan::{Plan, PlanMemory, StepState};
use crate::train::{check_batch, check_images};

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
        let mut plan = Plan::compile_with(model.graph(), batch, Mode::Infer, exec, ParamLayout::total)?;
        plan.pack(model.params());
        Ok(Inference { plan, input: model.graph().input, params: model.params().to_vec() })
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
        self.pass(x, n, logits, &mut [])
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
        self.pass(x, n, logits, features)
    }

    /// A pass that gives logits, and features where their slice is not empty.
    fn pass(
        &mut self,
        x: &[f32],
        n: usize,
        logits: &mut [f32],
        mut features: &mut [f32],
    ) -> Result<(), EngineError> {
        let images = check_batch(&self.plan, x, n)?;
        check_len("logits", logits, images * self.plan.classes())?;
        let Inference { plan, params, .. } = self;
        let threads = plan.threads();
        threads.enter(plan.work(images), || {
            let (chunk, len, classes) = (plan.chunk(), plan.input_len(), plan.classes());
            for (x, logits) in x.chunks(chunk * len).zip(logits.chunks_mut(chunk * classes)) {
                let images = logits.len() / classes;
                plan.input_mut(images).copy_from_slice(x);
                plan.forward(&mut StepState { params, grads: &mut [], images, first: 0, seed: 0, step: 0 });
                logits.copy_from_slice(plan.logits(images));
                if let Some(kept) = plan.features(images).filter(|_| !features.is_empty()) {
                    let (own, rest) = std::mem::take(&mut features).split_at_mut(kept.len());
                    own.copy_from_slice(kept);
                    features = rest;
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

    /// Floats of one input image.
    pub fn input_len(&self) -> usize {
        self.plan.input_len()
    }

    /// What it takes: the plan and a copy of the parameters. The model itself comes on top.
    pub fn memory(&self) -> PlanMemory {
        self.plan.memory()
    }
}

fn no_features() -> EngineError {
    EngineError::Config("the network has no dense layer, whose input would be an image's features".to_owned())
}

fn check_len(what: &'static str, found: &[f32], expected: usize) -> Result<(), EngineError> {
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
