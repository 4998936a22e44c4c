//! A stage of a plan.

use crate::geometry::PoolGeometry;
use crate::graph::Activation;

/// A stage: one node, and those behind it that it takes in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stage {
    /// The node that gives the stage its kind.
    pub(super) node: usize,
    /// The values that it reads.
    pub(super) inputs: Vec<usize>,
    /// The batch normalisation that folds into the filters, as it has running statistics.
    pub(super) norm: Option<usize>,
    /// The value that is added to the output, at inference.
    pub(super) residual: Option<usize>,
    /// The clamp that is applied to the output.
    pub(super) act: Option<Activation>,
    /// The max pool over the output of a convolution, or of a batch normalisation in training.
    pub(super) pool: Option<PoolGeometry>,
    /// The value that it makes.
    pub(super) output: usize,
    /// The pointwise convolutions before and behind a depthwise one that are computed with it, at inference.
    pub(super) expand: Option<Box<Stage>>,
    /// See `expand`; inputs, residual and output above are those of all together.
    pub(super) project: Option<Box<Stage>>,
}

/// The numbers that a value consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// f32.
    Floats,
    /// bf16.
    Halves,
    /// Bytes with a scale.
    Bytes,
}

/// What a stage reads and makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// What it reads; the scales of channels are always floats.
    pub(super) reads: Kind,
    pub(super) makes: Kind,
}

impl Form {
    /// A stage that reads and makes numbers of one kind.
    pub(super) const fn all(kind: Kind) -> Self {
        Form { reads: kind, makes: kind }
    }

    /// A stage that makes floats of numbers of any kind.
    pub(super) const fn floats_of(kind: Kind) -> Self {
        Form { reads: kind, makes: Kind::Floats }
    }
}
