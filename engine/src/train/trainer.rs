//! A model, its plan and its optimiser, one step at a time.

use ndarray::ArrayView4;

use super::batch::{check_batch, check_images};
use super::config::TrainConfig;
use crate::buffer::Buffer;
use crate::error::EngineError;
use crate::exec::{Exec, Mode};
use crate::kernels::softmax::{self, LossConfig, LossSums};
use crate::optim::{Groups, OptimizerState, Step, clip_factor};
use crate::params::{Model, ParamLayout};
use crate::plan::{Plan, PlanMemory, StepState};

/// What a step found before it changed the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepStats {
    /// Mean loss of the batch.
    pub loss: f32,
    /// Images whose largest logit is their label's.
    pub correct: usize,
}

/// Multiply-adds that take as long as the update of one parameter, which waits for memory.
const UPDATE_WORK: usize = 32;

/// A model in training.
pub struct Trainer {
    model: Model,
    plan: Plan,
    config: TrainConfig,
    grads: Buffer,
    optimizer: OptimizerState,
    steps: u64,
    packed: bool,
}

impl Trainer {
    /// Compiles a model for training.
    ///
    /// # Errors
    /// [`EngineError::Config`] for settings out of range, and those of [`Plan::compile`].
    pub fn new(model: Model, config: TrainConfig, exec: &Exec) -> Result<Self, EngineError> {
        config.validate()?;
        let count = config.optimizer.moments();
        let kept = |layout: &ParamLayout| layout.trainable() * (1 + count);
        let plan = Plan::compile_with(model.graph(), config.batch, Mode::Train, exec, kept)?;
        config.check_class_weights(plan.classes())?;
        let layout = model.layout();
        let groups = Groups::new(layout, model.graph().nodes.len(), &config.rates, config.decay)?;
        let grads = Buffer::zeros(layout.trainable());
        let optimizer = OptimizerState::new(config.optimizer, groups, layout.trainable());
        Ok(Trainer { model, plan, config, grads, optimizer, steps: 0, packed: false })
    }

    /// One step on `labels.len()` images `x [n, h, w, c]` with learning rate `lr`: forward, loss, backward, update.
    ///
    /// # Errors
    /// [`EngineError::Shape`] for an empty or too large batch or a wrong number of floats, [`EngineError::Label`].
    pub fn step(&mut self, x: &[f32], labels: &[u32], lr: f32) -> Result<StepStats, EngineError> {
        let threads = self.plan.threads();
        let work = self.plan.work(labels.len()) + self.grads.len() * UPDATE_WORK;
        threads.enter(work, || {
            let stats = self.gradients(x, labels)?;
            let Trainer { model, plan, config, grads, optimizer, steps, packed } = self;
            let trainable = grads.len();
            let grad_scale = clip_factor(grads, config.clip_norm);
            let step = Step { lr: lr.into(), step: *steps + 1, grad_scale };
            let params = &mut model.params_mut()[..trainable];
            optimizer.update((plan.exec().isa, &threads), params, grads, step);
            (*steps, *packed) = (*steps + 1, false);
            Ok(stats)
        })
    }

    /// As [`Trainer::step`] on an array of images `x [n, h, w, c]`.
    ///
    /// # Errors
    /// As [`Trainer::step`], and [`EngineError::Shape`] when an image does not have the network's shape.
    pub fn step_images(
        &mut self,
        x: ArrayView4<f32>,
        labels: &[u32],
        lr: f32,
    ) -> Result<StepStats, EngineError> {
        check_images(self.model.graph().input, &x)?;
        let x = x.as_standard_layout();
        self.step(x.as_slice().expect("a standard layout is one slice"), labels, lr)
    }

    /// The forward and backward pass of [`Trainer::step`] alone: running statistics move, parameters stay.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn gradients(&mut self, x: &[f32], labels: &[u32]) -> Result<StepStats, EngineError> {
        let images = check_batch(&self.plan, x, labels.len())?;
        let classes = self.plan.classes();
        if let Some(&label) = labels.iter().find(|&&label| label as usize >= classes) {
            return Err(EngineError::Label { label, classes });
        }
        let Trainer { model, plan, config, grads, steps, packed, .. } = self;
        let weights = config.class_weights.as_deref();
        let denominator = softmax::weight_sum(labels, weights);
        let loss_config = LossConfig {
            classes,
            smoothing: config.label_smoothing,
            class_weights: weights,
            denominator: denominator as f32,
        };
        let (work, seed, step) = (plan.work(images), config.seed, *steps);
        let threads = plan.threads();
        let sums = threads.enter(work, || {
            if !*packed {
                plan.pack(model.params());
            }
            let (chunk, len) = (plan.chunk(), plan.input_len());
            let mut sums = LossSums::default();
            for (pass, (x, labels)) in x.chunks(chunk * len).zip(labels.chunks(chunk)).enumerate() {
                let (images, first) = (labels.len(), pass * chunk);
                plan.input_mut(images).copy_from_slice(x);
                let mut state = StepState { params: model.params_mut(), grads, images, first, seed, step };
                plan.forward(&mut state);
                let (dlogits, logits) = plan.loss_slices(images);
                sums.add(softmax::cross_entropy(dlogits, logits, labels, loss_config));
                plan.backward(&mut state);
            }
            sums
        });
        *packed = true;
        Ok(StepStats { loss: (sums.loss / denominator.max(f64::MIN_POSITIVE)) as f32, correct: sums.correct })
    }

    /// The gradients that the last step found, laid out as the parameters are.
    pub fn grads(&self) -> &[f32] {
        &self.grads
    }

    /// The model as it stands.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, training over.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// What it takes: the plan, gradients and the optimiser's moments. The model itself comes on top.
    pub fn memory(&self) -> PlanMemory {
        self.plan.memory()
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The optimiser's moments, each laid out as the learnable parameters are.
    pub fn moments(&self) -> Vec<&[f32]> {
        self.optimizer.moments().iter().map(|moment| &moment[..]).collect()
    }

    /// Takes up training where another run stopped, with the model of then.
    ///
    /// # Errors
    /// [`EngineError::Config`] when the moments are not those of this model and optimiser.
    pub fn restore(&mut self, steps: u64, moments: &[Vec<f32>]) -> Result<(), EngineError> {
        let own = self.optimizer.moments_mut();
        if moments.len() != own.len() || moments.iter().any(|moment| moment.len() != self.grads.len()) {
            return Err(EngineError::Config(
                "the saved optimiser state is of another model or optimiser".to_owned(),
            ));
        }
        for (own, saved) in own.iter_mut().zip(moments) {
            own.copy_from_slice(saved);
        }
        self.steps = steps;
        Ok(())
    }
}
