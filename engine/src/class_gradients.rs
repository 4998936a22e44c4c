//! How the logit of a class changes with a value inside of a network: what maps of the places that speak for a class are
//! made from, as Grad-CAM.

use crate::collective::Team;
use crate::error::EngineError;
use crate::exec::{Exec, Mode};
use crate::geometry::Shape;
use crate::infer::check_len;
use crate::params::{Model, ParamLayout};
use crate::plan::{Plan, PlanMemory, StepState};
use crate::train::check_batch;

/// A model ready to give one value of its graph, and the gradient of one class's logit with respect to it.
///
/// All layers compute what they compute at inference: batch normalisations have their running statistics, dropouts drop
/// nothing. What an image gets has the same bits on any number of threads, in a batch of any size, at any place in it.
pub struct ClassGradients {
    plan: Plan,
    params: Vec<f32>,
    /// The backward pass of a layer gives the gradients of its parameters, too, which nobody reads: behind the last
    /// convolutions, where maps are usually made, they cost little.
    param_grads: Vec<f32>,
    shape: Shape,
}

/// Where a pass puts what it gives.
pub struct GradientOutputs<'a> {
    /// `[n, classes]`
    pub logits: &'a mut [f32],
    /// The value, `[n, h, w, c]`.
    pub values: &'a mut [f32],
    /// The gradient of the logit with respect to it, `[n, h, w, c]`.
    pub gradients: &'a mut [f32],
}

impl ClassGradients {
    /// Compiles a model for batches of up to `batch` images and for `value`, one of
    /// [`Graph::spatial_values`](crate::Graph::spatial_values).
    ///
    /// # Errors
    /// Those of [`Plan::compile`]; [`EngineError::Config`] for a value that is none of them.
    pub fn new(model: &Model, value: usize, batch: usize, exec: &Exec) -> Result<Self, EngineError> {
        let graph = model.graph();
        let owned = |layout: &ParamLayout| layout.total() + layout.trainable();
        let mut plan =
            Plan::compile_with(graph, (batch, Mode::Gradient { value }), (&[], None), exec, owned)?;
        plan.pack(model.params());
        Ok(ClassGradients {
            plan,
            params: model.params().to_vec(),
            param_grads: vec![0.0; model.layout().trainable()],
            shape: graph.shapes()?[value],
        })
    }

    /// Runs images `x [n, h, w, c]`, normalised as the model was trained: one for each of `classes`, whose logit is
    /// differentiated; `None` is the class of the largest logit, the first of equal ones. Returns the class of each image.
    ///
    /// # Errors
    /// [`EngineError::Shape`] for an empty or too large batch or a wrong number of floats, [`EngineError::Label`] for a class
    /// that the network does not have.
    pub fn run(
        &mut self,
        x: &[f32],
        classes: &[Option<u32>],
        outputs: GradientOutputs<'_>,
    ) -> Result<Vec<u32>, EngineError> {
        let GradientOutputs { logits, values, gradients } = outputs;
        let count = self.plan.classes();
        let n = check_batch(&self.plan, x, classes.len())?;
        if let Some(label) = classes.iter().flatten().copied().find(|&class| class as usize >= count) {
            return Err(EngineError::Label { label, classes: count });
        }
        let value_len = self.shape.len();
        check_len("logits", logits, n * count)?;
        check_len("values", values, n * value_len)?;
        check_len("gradients", gradients, n * value_len)?;
        let mut chosen = Vec::with_capacity(n);
        let ClassGradients { plan, params, param_grads, .. } = self;
        let threads = plan.threads();
        threads.enter(plan.work(n), || {
            let (chunk, len) = (plan.chunk(), plan.input_len());
            let outputs = logits.chunks_mut(chunk * count);
            let outputs = outputs.zip(values.chunks_mut(chunk * value_len));
            let outputs = outputs.zip(gradients.chunks_mut(chunk * value_len));
            for ((x, classes), ((logits, values), gradients)) in
                x.chunks(chunk * len).zip(classes.chunks(chunk)).zip(outputs)
            {
                let images = classes.len();
                plan.input_mut(images).copy_from_slice(x);
                let grads = &mut param_grads[..];
                let mut state =
                    StepState { params, grads, images, first: 0, team: Team::ALONE, seed: 0, step: 0 };
                plan.forward(&mut state);
                let (dlogits, found) = plan.loss_slices(images);
                logits.copy_from_slice(found);
                dlogits.fill(0.0);
                for ((row, dlogits), class) in found.chunks(count).zip(dlogits.chunks_mut(count)).zip(classes)
                {
                    let class = class.unwrap_or_else(|| largest(row));
                    dlogits[class as usize] = 1.0;
                    chosen.push(class);
                }
                plan.backward(&mut state, &[]);
                values.copy_from_slice(plan.kept_value(&plan.kept()[0], images));
                gradients.copy_from_slice(plan.gradient(images));
            }
        });
        Ok(chosen)
    }

    /// Height, width and channels of the value.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Most images of a call.
    pub fn batch(&self) -> usize {
        self.plan.batch()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.plan.classes()
    }

    /// Floats of one input image.
    pub fn input_len(&self) -> usize {
        self.plan.input_len()
    }

    /// Where it runs.
    pub fn exec(&self) -> &Exec {
        self.plan.exec()
    }

    /// What it takes: the plan, and a copy and the gradients of the parameters. The model itself comes on top.
    pub fn memory(&self) -> PlanMemory {
        self.plan.memory()
    }
}

/// The place of the largest logit, the first of equal ones.
fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if logit.total_cmp(&logits[best]).is_gt() {
            best = index;
        }
    }
    best as u32
}
