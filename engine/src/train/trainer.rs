//! A model, its plan and its optimiser, one step at a time.

use ndarray::ArrayView4;

use super::batch::{check_batch, check_images};
use super::config::TrainConfig;
use super::targets::{Mixed, Targets};
use crate::buffer::Buffer;
use crate::collective::{Collective, Team};
use crate::error::EngineError;
use crate::exec::{Exec, Learning, Mode};
use crate::geometry::Shape;
use crate::kernels::softmax::{Labels, LossSums};
use crate::optim::{Average, Moving, OptimizerState, Step, clip_factor};
use crate::params::{Model, ParamLayout};
use crate::plan::{Bucket, Plan, PlanMemory, StepState};

use std::sync::Arc;

/// What a step found before it changed the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepStats {
    /// Mean loss of the batch.
    pub loss: f32,
    /// Images whose largest logit is that of their label, or of their label with the larger share; with
    /// [`Loss::Sigmoid`](super::Loss::Sigmoid) those whose every class is on the right side.
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
    average: Option<Average>,
    steps: u64,
    packed: bool,
    ranks: Option<Ranks>,
}

/// The ranks that share each batch, and how gradients are summed over them.
struct Ranks {
    collective: Arc<dyn Collective>,
    buckets: Vec<Bucket>,
}

/// Floats of a bucket of gradients (1 MiB): few enough that the numbers of batch normalisations, which share the wire, do not wait
/// long behind one; enough that its two exchanges are not all latency.
const BUCKET: usize = 1 << 18;
/// Floats of the part of a bucket that a rank sums (8 KiB): less makes messages that are all latency.
const BUCKET_PART: usize = 1 << 11;

impl Ranks {
    fn new(collective: Arc<dyn Collective>, plan: &Plan) -> Self {
        let buckets = plan.buckets(BUCKET.max(collective.size() * BUCKET_PART));
        Ranks { collective, buckets }
    }
}

impl Trainer {
    /// Compiles a model for training.
    ///
    /// # Errors
    /// [`EngineError::Config`] for settings out of range, and those of [`Plan::compile`].
    pub fn new(model: Model, config: TrainConfig, exec: &Exec) -> Result<Self, EngineError> {
        Trainer::among(None, model, config, exec)
    }

    /// As [`Trainer::new`], for a rank that has a share of each batch: `config.batch` is the most images of its own. Every rank
    /// makes the same calls with its images, or none; what they return is that of the whole batch. Models must be alike at the
    /// start and stay so, bit for bit.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn among(
        ranks: Option<Arc<dyn Collective>>,
        model: Model,
        config: TrainConfig,
        exec: &Exec,
    ) -> Result<Self, EngineError> {
        config.validate()?;
        let plan = compile(&model, &config, exec, ranks.is_some())?;
        let ranks = ranks.map(|collective| Ranks::new(collective, &plan));
        config.check_class_weights(plan.classes())?;
        let grads = Buffer::zeros(model.layout().trainable());
        let moving = Moving { rates: &config.rates, frozen: config.frozen, decay: config.decay };
        let optimizer = OptimizerState::new((exec.isa, config.optimizer), &model, moving)?;
        let average = config.ema.map(|decay| Average::new(decay, model.params()));
        Ok(Trainer { model, plan, config, grads, optimizer, average, steps: 0, packed: false, ranks })
    }

    /// The same training on images of another size: weights, moments, average and count of steps stay, the plan is new.
    ///
    /// # Errors
    /// [`EngineError::Graph`] for a network whose parameters depend on the size of its images, and those of
    /// [`Plan::compile`].
    pub fn resized(self, input: Shape) -> Result<Self, EngineError> {
        let Trainer { model, plan, config, grads, optimizer, average, steps, ranks, .. } = self;
        let exec = plan.exec().clone();
        // Two plans are never in memory at a time.
        drop(plan);
        let model = model.with_input(input)?;
        let plan = compile(&model, &config, &exec, ranks.is_some())?;
        let ranks = ranks.map(|ranks| Ranks::new(ranks.collective, &plan));
        Ok(Trainer { model, plan, config, grads, optimizer, average, steps, packed: false, ranks })
    }

    /// One step on `labels.len()` images `x [n, h, w, c]` with learning rate `lr`: forward, loss, backward, update.
    ///
    /// # Errors
    /// [`EngineError::Shape`] for an empty or too large batch or a wrong number of floats, [`EngineError::Label`],
    /// [`EngineError::Config`] where the loss needs other targets.
    pub fn step(&mut self, x: &[f32], labels: &[u32], lr: f32) -> Result<StepStats, EngineError> {
        self.learn(x, Targets::Classes(Labels::One(labels)), lr)
    }

    /// As [`Trainer::step`] on images of two classes each: the loss is that of either class times its share, so label
    /// smoothing and class weights mean for each what they mean for one.
    ///
    /// # Errors
    /// As [`Trainer::step`], and for lists of different lengths and shares that are not in `0..=1`.
    pub fn step_mixed(&mut self, x: &[f32], mixed: Mixed, lr: f32) -> Result<StepStats, EngineError> {
        self.learn(x, mixed.into(), lr)
    }

    /// As [`Trainer::step`] with [`Loss::Sigmoid`](super::Loss::Sigmoid): `targets [n, classes]` in `0..=1` say which
    /// classes an image has. The loss is the mean over images and classes.
    ///
    /// # Errors
    /// As [`Trainer::step`], and for targets that are not in `0..=1`.
    pub fn step_targets(&mut self, x: &[f32], targets: &[f32], lr: f32) -> Result<StepStats, EngineError> {
        self.learn(x, Targets::Each(targets), lr)
    }

    /// A step.
    fn learn(&mut self, x: &[f32], targets: Targets, lr: f32) -> Result<StepStats, EngineError> {
        let images = self.check(x, targets)?;
        let threads = self.plan.threads();
        let work = self.plan.work(images).saturating_add(self.grads.len() * UPDATE_WORK);
        Ok(threads.enter(work, || {
            let stats = self.pass(x, targets, images);
            let Trainer { model, plan, config, grads, optimizer, average, steps, packed, .. } = self;
            let trainable = grads.len();
            let grad_scale = clip_factor(grads, config.clip_norm);
            let step = Step { lr: lr.into(), step: *steps + 1, grad_scale };
            let place = (plan.exec().isa, &*threads);
            optimizer.update(place, &mut model.params_mut()[..trainable], grads, step);
            (*steps, *packed) = (*steps + 1, false);
            if let Some(average) = average {
                average.update(place, model.params(), *steps);
            }
            stats
        }))
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
        let targets = Targets::Classes(Labels::One(labels));
        let images = self.check(x, targets)?;
        Ok(self.pass(x, targets, images))
    }

    /// Checks a batch; gives the number of its images.
    fn check(&self, x: &[f32], targets: Targets) -> Result<usize, EngineError> {
        let images = targets.check(self.config.loss, self.plan.classes())?;
        match images {
            0 if self.ranks.is_some() && x.is_empty() => Ok(0),
            _ => check_batch(&self.plan, x, images),
        }
    }

    /// Forward and backward on a checked batch.
    fn pass(&mut self, x: &[f32], targets: Targets, images: usize) -> StepStats {
        let Trainer { model, plan, config, grads, steps, packed, ranks, .. } = self;
        let ranks = ranks.as_ref();
        let whole = Whole::of(ranks, images, targets.denominator(config));
        let (team, buckets) = (whole.team, ranks.map_or(&[][..], |ranks| &ranks.buckets));
        let (work, seed, step) = (plan.work(images), config.seed, *steps);
        let threads = plan.threads();
        let sums = threads.enter(work, || {
            if !*packed {
                plan.pack(model.params());
            }
            let (chunk, len) = (plan.chunk(), plan.input_len());
            let mut sums = LossSums::default();
            for (pass, x) in x.chunks(chunk * len).enumerate() {
                let (own, first) = (x.len() / len, pass * chunk);
                plan.input_mut(own).copy_from_slice(x);
                let params = model.params_mut();
                let mut state = StepState { params, grads, images: own, first, team, seed, step };
                plan.forward(&mut state);
                let logits = plan.loss_slices(own);
                sums.add(targets.loss(first..first + own, logits, config, whole.denominator as f32));
                let is_last = first + own == images;
                plan.backward(&mut state, if is_last { buckets } else { &[] });
            }
            if images == 0 {
                let params = model.params_mut();
                let mut state = StepState { params, grads, images, first: 0, team, seed, step };
                plan.forward_without_images(&mut state);
                plan.backward_without_images(&mut state, buckets);
            }
            plan.finish_gradients(model.params(), grads);
            if let Some(Ranks { collective, buckets }) = ranks {
                let late = buckets.iter().filter(|bucket| bucket.layer.is_none());
                late.for_each(|bucket| collective.start_sum(&grads[bucket.range.clone()]));
                buckets.iter().for_each(|bucket| collective.finish_sum(&mut grads[bucket.range.clone()]));
                sums = summed(collective.as_ref(), &sums);
            }
            sums
        });
        *packed = true;
        StepStats {
            loss: (sums.loss / whole.denominator.max(f64::MIN_POSITIVE)) as f32,
            correct: sums.correct,
        }
    }

    /// The gradients that the last step found, laid out as the parameters are; zeros where nothing learns.
    pub fn grads(&self) -> &[f32] {
        &self.grads
    }

    /// The model as it stands.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The average of all steps' models, [`TrainConfig::ema`]; the model as it stands without one.
    pub fn averaged(&self) -> Model {
        let mut model = self.model.clone();
        if let Some(average) = &self.average {
            model.params_mut().copy_from_slice(average.params());
        }
        model
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

    /// What [`Trainer::restore`] needs besides the model: the optimiser's moments and the average, each laid out as the
    /// learnable parameters are.
    pub fn moments(&self) -> Vec<Vec<f32>> {
        let moments = self.optimizer.moments().iter().map(|moment| moment.to_vec());
        let average = self.average.iter().flat_map(|average| average.parts(self.model.layout()));
        moments.chain(average).collect()
    }

    /// Takes up training where another run stopped, with the model of then.
    ///
    /// # Errors
    /// [`EngineError::Config`] when the moments are not those of this model and optimiser.
    pub fn restore(&mut self, steps: u64, moments: &[Vec<f32>]) -> Result<(), EngineError> {
        let layout = self.model.layout();
        let own = self.optimizer.moments_mut();
        let parts = if self.average.is_some() { Average::part_count(layout) } else { 0 };
        let expected = own.len() + parts;
        if moments.len() != expected || moments.iter().any(|moment| moment.len() != self.grads.len()) {
            return Err(EngineError::Config(
                "the saved optimiser state is of another model or optimiser".to_owned(),
            ));
        }
        let (moments, parts) = moments.split_at(own.len());
        for (own, saved) in own.iter_mut().zip(moments) {
            own.copy_from_slice(saved);
        }
        if let Some(average) = &mut self.average {
            average.restore(layout, parts);
        }
        self.steps = steps;
        Ok(())
    }
}

/// The batch of which this process has a share.
struct Whole<'a> {
    team: Team<'a>,
    /// What the summed loss of all images is divided by.
    denominator: f64,
}

impl<'a> Whole<'a> {
    /// From this process's share of it.
    fn of(ranks: Option<&'a Ranks>, images: usize, denominator: f64) -> Self {
        let Some(ranks) = ranks.map(|ranks| ranks.collective.as_ref()) else {
            return Whole { team: Team::ALONE, denominator };
        };
        let all = ranks.gather(&[images as f64, denominator]);
        let first = all.chunks_exact(2).take(ranks.rank()).map(|rank| rank[0] as usize).sum();
        let denominator = all.chunks_exact(2).map(|rank| rank[1]).sum();
        Whole { team: Team { ranks: Some(ranks), first }, denominator }
    }
}

/// The sums of the loss over all ranks, in their order.
fn summed(ranks: &dyn Collective, own: &LossSums) -> LossSums {
    let all = ranks.gather(&[own.loss, own.correct as f64]);
    let mut sums = LossSums::default();
    for rank in all.chunks_exact(2) {
        sums.add(LossSums { loss: rank[0], correct: rank[1] as usize, weight: 0.0 });
    }
    sums
}

/// A plan that counts all that a trainer keeps; `shared` by several ranks, sums of gradients are under way beside the gradients.
fn compile(model: &Model, config: &TrainConfig, exec: &Exec, shared: bool) -> Result<Plan, EngineError> {
    let kept = |layout: &ParamLayout| {
        let average = if config.ema.is_some() { layout.total() } else { 0 };
        let sums = if shared { 2 * layout.trainable() } else { 0 };
        layout.trainable() + sums + OptimizerState::floats((exec.isa, config.optimizer), model) + average
    };
    let mode = Mode::Train(Learning { norms: config.norms, frozen: config.frozen });
    Plan::compile_with(model.graph(), (config.batch, mode), (&[], None), exec, kept)
}
