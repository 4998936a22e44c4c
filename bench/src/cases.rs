//! A case: one pass of one operation on one shape, and what it costs by definition.

use std::fmt;

use ocelli_engine::geometry::{Conv2dGeometry, PoolGeometry};
use ocelli_engine::kernels::winograd::{self, Tile};
use ocelli_engine::plan::chosen_tile;
use ocelli_engine::simd::Bf16Isa;
use ocelli_engine::{DotIsa, Isa, Mode};
use serde::Serialize;

/// Shape of `y [rows, cols] = x [rows, depth] w [depth, cols]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of `x` and `y`: images.
    pub rows: usize,
    /// Reduction length.
    pub depth: usize,
    /// Columns of `w` and `y`.
    pub cols: usize,
}

/// What is computed, and on which shape. Convolutions and pools work on one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A matrix product.
    Gemm(Product),
    /// The same as a layer for few images, where weights are read once and used once.
    Dense(Product),
    /// A convolution over all channels.
    Conv2d(Conv2dGeometry),
    /// 2-d convolution of bf16 with sums in f32.
    HalfConv2d(Conv2dGeometry),
    /// A convolution of unsigned bytes with signed ones over all channels.
    ByteConv2d(Conv2dGeometry),
    /// A convolution of each channel by itself.
    Depthwise(Conv2dGeometry),
    /// The largest value of each window.
    MaxPool(PoolGeometry),
    /// Batch normalisation of `[images, side, side, channels]`.
    BatchNorm {
        /// Images in the batch.
        images: usize,
        /// Height and width.
        side: usize,
        /// Channels.
        channels: usize,
    },
    /// Softmax, cross-entropy and its gradient in one pass over `[rows, classes]`.
    SoftmaxCrossEntropy {
        /// Images.
        rows: usize,
        /// Classes.
        classes: usize,
    },
    /// One step of Adam.
    Adam {
        /// Number of parameters.
        parameters: usize,
    },
}

/// Which of an operation's computations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Outputs from inputs.
    Forward,
    /// Gradient of the inputs.
    BackwardData,
    /// Gradient of the weights, added to what is there.
    BackwardWeights,
    /// Batch normalisation: mean and sum of squared deviations of each channel.
    Moments,
    /// Batch normalisation: a factor and an addend for each channel.
    Affine,
    /// Batch normalisation: gradients of factor and addend.
    BackwardSums,
    /// Loss and its gradient.
    Loss,
    /// New parameters from gradients.
    Update,
}

/// The numbers that a kernel multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// Single precision.
    F32,
    /// bf16, summed in f32.
    Bf16,
    /// Bytes, summed in 32 bits.
    Int8,
}

/// How it is computed: one of our algorithms, or somebody else's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// By definition, on weights that were packed beforehand.
    Direct,
    /// [`Variant::Direct`] with the packing of weights in every call, as libraries without packed weights have to.
    WithPack,
    /// Winograd's `F(2x2, 3x3)`. Operations are counted as those of the direct form, so that rates compare.
    Winograd2,
    /// Winograd's `F(4x4, 3x3)`, counted likewise.
    Winograd4,
    /// The crate `matrixmultiply`.
    #[cfg(feature = "yardsticks")]
    MatrixMultiply,
    /// The crate `gemm`.
    #[cfg(feature = "yardsticks")]
    GemmCrate,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is computed.
    pub op: Op,
    /// Which part of it.
    pub pass: Pass,
    /// By which kernel.
    pub variant: Variant,
    /// Copies of the kernel that run at once, each on operands of its own: what this measures is how far cores get
    /// in each other's way. How well one layer is cut into threads is measured on whole networks.
    pub threads: usize,
}

/// What one call costs by definition, whatever a kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations: 2 per multiply-add, taps on padding included; 1 per comparison, root or exponential.
    pub flops: usize,
    /// Compulsory traffic: every input read once, every output written once, what is updated both.
    pub bytes: usize,
    /// Memory that is touched, which decides the level that the traffic comes from when calls are repeated.
    pub footprint: usize,
}

impl Cost {
    /// `reads`, `writes` and `updates` are numbers of floats.
    fn new(flops: usize, reads: usize, writes: usize, updates: usize) -> Self {
        const FLOAT: usize = size_of::<f32>();
        Cost {
            flops,
            bytes: (reads + writes + 2 * updates) * FLOAT,
            footprint: (reads + writes + updates) * FLOAT,
        }
    }

    /// Arithmetic intensity: operations per byte.
    pub fn intensity(&self) -> f64 {
        self.flops as f64 / self.bytes as f64
    }
}

impl Op {
    /// The name of the operation in ids.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Gemm(_) => "gemm",
            Op::Dense(_) => "dense",
            Op::Conv2d(_) => "conv2d",
            Op::HalfConv2d(_) => "conv2d-bf16",
            Op::ByteConv2d(_) => "conv2d-int8",
            Op::Depthwise(_) => "depthwise",
            Op::MaxPool(_) => "maxpool",
            Op::BatchNorm { .. } => "batchnorm",
            Op::SoftmaxCrossEntropy { .. } => "softmax-ce",
            Op::Adam { .. } => "adam",
        }
    }

    /// The shape in ids: `128x1600x128`, `56x56_64to128_k3s2`, `112x112x32_k3s1`.
    pub fn shape(&self) -> String {
        match *self {
            Op::Gemm(Product { rows, depth, cols }) | Op::Dense(Product { rows, depth, cols }) => {
                format!("{rows}x{depth}x{cols}")
            }
            Op::Conv2d(g) | Op::HalfConv2d(g) | Op::ByteConv2d(g) => {
                format!("{}x{}_{}to{}_k{}s{}", g.h, g.w, g.cin, g.cout, g.kernel[0], g.stride[0])
            }
            Op::Depthwise(g) => format!("{}x{}x{}_k{}s{}", g.h, g.w, g.cin, g.kernel[0], g.stride[0]),
            Op::MaxPool(g) => format!("{}x{}x{}_k{}s{}", g.h, g.w, g.c, g.kernel[0], g.stride[0]),
            Op::BatchNorm { images, side, channels } => format!("{images}x{side}x{side}x{channels}"),
            Op::SoftmaxCrossEntropy { rows, classes } => format!("{rows}x{classes}"),
            Op::Adam { parameters } => format!("{parameters}"),
        }
    }

    /// Its passes, in the order of a training step.
    pub fn passes(&self) -> &'static [Pass] {
        match self {
            Op::Gemm(_) | Op::Dense(_) | Op::Conv2d(_) | Op::HalfConv2d(_) | Op::Depthwise(_) => {
                &[Pass::Forward, Pass::BackwardData, Pass::BackwardWeights]
            }
            Op::ByteConv2d(_) => &[Pass::Forward],
            Op::MaxPool(_) => &[Pass::Forward, Pass::BackwardData],
            Op::BatchNorm { .. } => &[Pass::Moments, Pass::Affine, Pass::BackwardSums, Pass::BackwardData],
            Op::SoftmaxCrossEntropy { .. } => &[Pass::Loss],
            Op::Adam { .. } => &[Pass::Update],
        }
    }
}

impl Pass {
    /// The name of the pass in ids.
    pub fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::BackwardData => "backward-data",
            Pass::BackwardWeights => "backward-weights",
            Pass::Moments => "moments",
            Pass::Affine => "affine",
            Pass::BackwardSums => "backward-sums",
            Pass::Loss => "loss",
            Pass::Update => "update",
        }
    }
}

impl Variant {
    /// The name of the variant in ids.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Direct => "direct",
            Variant::WithPack => "with-pack",
            Variant::Winograd2 => "winograd2",
            Variant::Winograd4 => "winograd4",
            #[cfg(feature = "yardsticks")]
            Variant::MatrixMultiply => "matrixmultiply",
            #[cfg(feature = "yardsticks")]
            Variant::GemmCrate => "gemm-crate",
        }
    }

    /// Whether it is somebody else's kernel, which chooses its instructions by itself.
    pub fn is_yardstick(self) -> bool {
        match self {
            Variant::Direct | Variant::WithPack | Variant::Winograd2 | Variant::Winograd4 => false,
            #[cfg(feature = "yardsticks")]
            Variant::MatrixMultiply | Variant::GemmCrate => true,
        }
    }
}

impl Case {
    /// A case as layers compute it, on one thread.
    pub fn new(op: Op, pass: Pass) -> Self {
        Case { op, pass, variant: Variant::Direct, threads: 1 }
    }

    /// The kernels of ours that could stand in for each other here: what a dispatcher chooses from.
    pub fn alternatives(&self) -> &'static [Variant] {
        match (self.variant, self.op) {
            (Variant::WithPack, _) => &[Variant::WithPack],
            (_, Op::Conv2d(g)) if winograd::fits(&g) && g.cin >= 16 => {
                &[Variant::Direct, Variant::Winograd2, Variant::Winograd4]
            }
            _ => &[Variant::Direct],
        }
    }

    /// Whether the kernel is compiled once per instruction set; plain Rust is the same on all.
    pub fn depends_on_isa(&self) -> bool {
        !matches!(self.op, Op::SoftmaxCrossEntropy { .. }) && !self.variant.is_yardstick()
    }

    /// The instruction set of its kernel, where floats are computed with `isa`.
    pub fn unit(&self, isa: Isa) -> &'static str {
        match self.numbers() {
            Numbers::F32 => isa.name(),
            Numbers::Bf16 => Bf16Isa::of(isa).name(),
            Numbers::Int8 => DotIsa::of(isa).name(),
        }
    }

    /// The numbers that it multiplies.
    pub fn numbers(&self) -> Numbers {
        match self.op {
            Op::ByteConv2d(_) => Numbers::Int8,
            Op::HalfConv2d(_) => Numbers::Bf16,
            _ => Numbers::F32,
        }
    }

    /// Multiplications that the kernel does for each of the definition's: fewer than one by way of Winograd's transforms.
    pub fn executed(&self) -> f64 {
        let tile = match self.variant {
            Variant::Winograd2 => Tile::Two,
            Variant::Winograd4 => Tile::Four,
            _ => return 1.0,
        };
        let Op::Conv2d(g) = self.op else { return 1.0 };
        let [h, w] = if self.pass == Pass::BackwardData { [g.h, g.w] } else { [g.oh, g.ow] };
        let tiles = h.div_ceil(tile.outputs()) * w.div_ceil(tile.outputs());
        (tiles * tile.values()) as f64 / (9 * g.oh * g.ow) as f64
    }

    /// Whether a plan computes a layer of this shape by this kernel; others are here to be compared. Gradients are never
    /// those of one image, as cases are: what is faster for it says nothing about a batch.
    pub fn is_chosen(&self) -> bool {
        let Op::Conv2d(g) = self.op else { return !self.variant.is_yardstick() };
        self.pass == Pass::Forward
            && self.variant
                == match chosen_tile(&g, Mode::Infer) {
                    None => Variant::Direct,
                    Some(Tile::Two) => Variant::Winograd2,
                    Some(Tile::Four) => Variant::Winograd4,
                }
    }

    /// `operation/pass/shape/variant`: stable from version to version. A pass that is the only one or a plain matrix
    /// product, and the variant `direct`, are left out.
    pub fn id(&self) -> String {
        let mut id = self.op.name().to_owned();
        let implied = matches!(
            (self.op, self.pass),
            (Op::Gemm(_), Pass::Forward) | (_, Pass::Loss) | (_, Pass::Update)
        );
        if !implied {
            id = format!("{id}/{}", self.pass.name());
        }
        id = format!("{id}/{}", self.op.shape());
        if self.variant != Variant::Direct {
            id = format!("{id}/{}", self.variant.name());
        }
        id
    }

    /// The id with where it ran: `gemm/64x64x64/avx2/t1`.
    pub fn full_id(&self, isa: &str) -> String {
        if self.variant.is_yardstick() {
            return format!("{}/t{}", self.id(), self.threads);
        }
        format!("{}/{isa}/t{}", self.id(), self.threads)
    }

    /// What one call of one copy costs.
    pub fn cost(&self) -> Cost {
        match self.op {
            Op::Gemm(Product { rows, depth, cols }) | Op::Dense(Product { rows, depth, cols }) => {
                let lens = [rows * depth, depth * cols, rows * cols];
                self.linear_cost(2 * rows * depth * cols, lens)
            }
            Op::Conv2d(g) | Op::Depthwise(g) => {
                self.linear_cost(2 * g.macs(), [g.x_len(), g.w_len(), g.y_len()])
            }
            Op::HalfConv2d(g) => {
                // Gradients of weights are in f32.
                let dw = if self.pass == Pass::BackwardWeights { 2 } else { 1 };
                let cost = self.linear_cost(2 * g.macs(), [g.x_len(), dw * g.w_len(), g.y_len()]);
                Cost { bytes: cost.bytes / 2, footprint: cost.footprint / 2, ..cost }
            }
            Op::ByteConv2d(g) => {
                let [reads, writes] = [g.x_len() + g.w_len(), g.y_len()];
                Cost { flops: 2 * g.macs(), bytes: reads + writes, footprint: reads + writes }
            }
            Op::MaxPool(g) => {
                // A comparison for each element of each window, in both directions: indices are not stored.
                let flops = g.y_len() * g.kernel[0] * g.kernel[1];
                match self.pass {
                    Pass::Forward => Cost::new(flops, g.x_len(), g.y_len(), 0),
                    _ => Cost::new(flops, g.x_len() + 2 * g.y_len(), g.x_len(), 0),
                }
            }
            Op::BatchNorm { images, side, channels } => {
                let len = images * side * side * channels;
                match self.pass {
                    // x into the mean; x - mean, its square, and their sum.
                    Pass::Moments => Cost::new(4 * len, len, 2 * channels, 0),
                    Pass::Affine => Cost::new(2 * len, len + 2 * channels, len, 0),
                    // dy into one sum; x - mean times dy into another.
                    Pass::BackwardSums => Cost::new(4 * len, 2 * len + 2 * channels, 2 * channels, 0),
                    _ => Cost::new(4 * len, 2 * len + 3 * channels, len, 0),
                }
            }
            Op::SoftmaxCrossEntropy { rows, classes } => {
                // Maximum, difference, exponential, sum, scale, minus target.
                let len = rows * classes;
                Cost::new(6 * len, len + rows, len, 0)
            }
            // Three operations for m, four for v, six for w, one for the factor of the gradient.
            Op::Adam { parameters } => Cost::new(14 * parameters, parameters, 0, 3 * parameters),
        }
    }

    /// Cost of a pass of a linear layer from the floats of `x`, `w` and `y`.
    fn linear_cost(&self, flops: usize, [x, w, y]: [usize; 3]) -> Cost {
        match self.pass {
            Pass::BackwardWeights => Cost::new(flops, x + y, 0, w),
            Pass::BackwardData => Cost::new(flops, w + y, x, 0),
            _ => Cost::new(flops, x + w, y, 0),
        }
    }

    /// Products in the sum behind one output, which decides how much rounding is to be expected.
    pub(crate) fn terms(&self) -> usize {
        // Transforms round as sixteen times the terms would: their errors are held below four times the direct form's.
        let factor = if matches!(self.variant, Variant::Winograd2 | Variant::Winograd4) { 16 } else { 1 };
        factor * self.direct_terms()
    }

    /// How far outputs are off at most, relative to themselves, for being stored in fewer bits than sums are in.
    pub(crate) fn stored_rounding(&self) -> f64 {
        let in_bf16 = matches!(self.op, Op::HalfConv2d(_)) && self.pass != Pass::BackwardWeights;
        if in_bf16 { 1.0 / f64::from(1 << 8) } else { 0.0 }
    }

    fn direct_terms(&self) -> usize {
        match (self.op, self.pass) {
            (Op::Gemm(p) | Op::Dense(p), Pass::Forward) => p.depth,
            (Op::Gemm(p) | Op::Dense(p), Pass::BackwardData) => p.cols,
            (Op::Gemm(p) | Op::Dense(p), _) => p.rows,
            (Op::Conv2d(g) | Op::HalfConv2d(g) | Op::Depthwise(g), Pass::BackwardWeights) => g.oh * g.ow,
            (Op::Conv2d(g) | Op::HalfConv2d(g) | Op::Depthwise(g), pass) => {
                let channels = if pass == Pass::Forward { g.cin } else { g.cout };
                g.kernel[0] * g.kernel[1] * channels / g.groups
            }
            (Op::BatchNorm { images, side, .. }, Pass::Moments | Pass::BackwardSums) => images * side * side,
            (Op::SoftmaxCrossEntropy { classes, .. }, _) => classes,
            // Bytes are what they are, or another number.
            (Op::ByteConv2d(_), _) => 0,
            (Op::MaxPool(g), _) => g.kernel[0] * g.kernel[1],
            _ => 1,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::table;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique() {
        let ids: Vec<String> = table().iter().map(Case::id).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:#?}");
        assert!(ids.iter().all(|id| id.is_ascii() && !id.contains(' ')));
    }

    #[test]
    fn ids_name_operation_pass_and_shape() {
        let p = Product { rows: 64, depth: 32, cols: 16 };
        assert_eq!(Case::new(Op::Gemm(p), Pass::Forward).id(), "gemm/64x32x16");
        let mut case = Case::new(Op::Dense(p), Pass::BackwardData);
        assert_eq!(case.id(), "dense/backward-data/64x32x16");
        case.variant = Variant::WithPack;
        case.threads = 2;
        assert_eq!(case.full_id("avx2"), "dense/backward-data/64x32x16/with-pack/avx2/t2");
        assert_eq!(Case::new(Op::Adam { parameters: 9 }, Pass::Update).id(), "adam/9");
    }

    #[test]
    fn costs_are_counted_by_definition() {
        let p = Product { rows: 2, depth: 3, cols: 5 };
        let cost = |pass| Case::new(Op::Gemm(p), pass).cost();
        assert_eq!(cost(Pass::Forward), Cost { flops: 60, bytes: 124, footprint: 124 });
        assert_eq!(cost(Pass::BackwardData), cost(Pass::Forward));
        assert_eq!(cost(Pass::BackwardWeights), Cost { flops: 60, bytes: 184, footprint: 124 });
        let adam = Case::new(Op::Adam { parameters: 10 }, Pass::Update).cost();
        assert_eq!((adam.bytes, adam.footprint), (280, 160));
        let winograd =
            table().into_iter().find(|case| case.id() == "conv2d/forward/56x56_64to64_k3s1/winograd4");
        assert_eq!(winograd.map(|case| case.executed()), Some(0.25));
        for case in table() {
            let Cost { flops, bytes, footprint } = case.cost();
            assert!(flops > 0 && footprint > 0 && bytes >= footprint, "{case}");
            // Bytes are exact.
            assert_eq!(case.terms() == 0, case.numbers() == Numbers::Int8, "{case}");
            assert!(case.executed() > 0.1 && case.executed() <= 2.5, "{case}: {}", case.executed());
        }
    }
}
