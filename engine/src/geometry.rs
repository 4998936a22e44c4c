//! Settings of convolutions and pools, and what they come to on an input: pure integer code, the only place where
//! geometry is validated.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::EngineError;

/// Largest side of an image, number of channels or kernel side that a graph may have.
pub const MAX_DIM: usize = 1 << 16;
/// Whether addresses have 64 bits, in which products of two numbers of elements fit: planning computes them as they are.
///
/// Where they have 32 (in WebAssembly) smaller limits keep sizes within them, and what planning may count past them
/// stops at the largest number. Of [`MAX_ELEMENTS`] numbers each are: a tensor; an image with its padding
/// ([`Conv2dGeometry::new`]), which bounds the work space of a layer; all parameters. Packing rounds columns up to a panel of at
/// most 8, and transforms for Winograd's form, which take at least 16 columns, make 36 values of 9: both give less than 2^29 floats,
/// or 2^31 bytes. All images of a batch have at most 8 times as many ([`MAX_BATCH_ELEMENTS`]), so that their bytes fit, too. Sums of
/// these are checked (`PlanMemory`, `Arena`), and multiply-adds, which only say how far work is shared, are saturating.
const WIDE: bool = usize::BITS >= 64;

/// Largest number of elements of one image's tensor at one point of the network (1 GiB of floats; 128 MiB where addresses have
/// 32 bits).
pub const MAX_ELEMENTS: usize = if WIDE { 1 << 28 } else { 1 << 25 };
/// Largest number of elements of a batch at one point of the network.
pub(crate) const MAX_BATCH_ELEMENTS: usize = if WIDE { usize::MAX } else { 8 * MAX_ELEMENTS };
/// Largest side of a window, distance of its taps and width of a padding.
const MAX_WINDOW: usize = if WIDE { MAX_DIM } else { 1 << 11 };

/// The product, or the largest number where that is larger.
pub(crate) fn saturating_product<const N: usize>(factors: [usize; N]) -> usize {
    factors.into_iter().fold(1, usize::saturating_mul)
}

/// Shape of one image's tensor: height, width, channels. A flat vector is `1 x 1 x c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Height in pixels.
    pub h: u32,
    /// Width in pixels.
    pub w: u32,
    /// Channels.
    pub c: u32,
}

impl Shape {
    /// A shape of `h x w x c`.
    pub fn new(h: usize, w: usize, c: usize) -> Self {
        Shape { h: h as u32, w: w as u32, c: c as u32 }
    }

    /// Elements of one image. Cannot overflow on a shape that [`Shape::check`] accepted.
    pub fn len(&self) -> usize {
        self.h as usize * self.w as usize * self.c as usize
    }

    /// Whether the shape holds no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses empty shapes and those beyond [`MAX_DIM`] and [`MAX_ELEMENTS`].
    ///
    /// # Errors
    /// [`EngineError::Graph`] that names `node`.
    pub fn check(self, node: &str) -> Result<Self, EngineError> {
        let sides = [self.h, self.w, self.c];
        // A flat vector may be longer than MAX_DIM; only the element count bounds it.
        let flat = self.h == 1 && self.w == 1;
        let elements = sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side as usize));
        match elements {
            Some(count)
                if count > 0
                    && count <= MAX_ELEMENTS
                    && (flat || sides.iter().all(|&s| s as usize <= MAX_DIM)) =>
            {
                Ok(self)
            }
            _ => Err(EngineError::graph(node, format!("unusable output shape {self}"))),
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.h, self.w, self.c)
    }
}

/// Settings of a 2-d convolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2d {
    /// Output channels.
    pub filters: u32,
    /// Kernel height and width.
    pub kernel: [u32; 2],
    /// Step in height and width.
    pub stride: [u32; 2],
    /// Distance between taps in height and width.
    pub dilation: [u32; 2],
    /// Zeros around the image.
    pub padding: Padding,
    /// Channel groups.
    pub groups: u32,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Conv2d {
    /// A square kernel with stride 1, no padding, one group and a bias.
    pub fn new(filters: usize, kernel: usize) -> Self {
        Conv2d {
            filters: filters as u32,
            kernel: [kernel as u32; 2],
            stride: [1; 2],
            dilation: [1; 2],
            padding: Padding::Valid,
            groups: 1,
            bias: true,
        }
    }
}

/// Zeros around an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// None.
    Valid,
    /// So that the output covers `ceil(size / stride)` windows; an odd zero goes after.
    Same,
    /// Above, below, left, right.
    Explicit([u32; 4]),
}

/// Settings of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool2d {
    /// Window height and width.
    pub kernel: [u32; 2],
    /// Step in height and width.
    pub stride: [u32; 2],
    /// Padding around the image.
    pub padding: Padding,
}

impl Pool2d {
    /// Square windows side by side, without padding.
    pub fn new(size: usize) -> Self {
        Pool2d { kernel: [size as u32; 2], stride: [size as u32; 2], padding: Padding::Valid }
    }
}

/// One image's 2-d convolution in NHWC: `y[oh, ow, co] = sum x[oh*stride + kh*dilation - pad, ..] w[kh, kw, ci, co]`.
///
/// Weights are `[kh][kw][cin / groups][cout]`; group `g` reads input channels `g*cin/groups..` and writes
/// output channels `g*cout/groups..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dGeometry {
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Step in height and width.
    pub stride: [usize; 2],
    /// Distance between taps in height and width.
    pub dilation: [usize; 2],
    /// Zeros added above, below, left and right.
    pub padding: [usize; 4],
    /// Channel groups; `cin` for a depthwise convolution.
    pub groups: usize,
    /// Output height.
    pub oh: usize,
    /// Output width.
    pub ow: usize,
}

impl Conv2dGeometry {
    /// Resolves a layer on an input shape.
    ///
    /// # Errors
    /// [`EngineError::Graph`] when the kernel does not fit, a group does not divide, or a size is out of range.
    pub fn new(node: &str, input: Shape, conv: &Conv2d) -> Result<Self, EngineError> {
        let err = |reason: String| Err(EngineError::graph(node, reason));
        let (cin, cout, groups) = (input.c as usize, conv.filters as usize, conv.groups as usize);
        if groups == 0 || !cin.is_multiple_of(groups) || !cout.is_multiple_of(groups) {
            return err(format!("{groups} groups do not divide {cin} input and {cout} output channels"));
        }
        if cout == 0 || cout > MAX_DIM {
            return err(format!("{cout} filters are not in 1..={MAX_DIM}"));
        }
        let window = Window::new(node, input, conv.kernel, conv.stride, conv.dilation, conv.padding)?;
        Shape::new(window.oh, window.ow, cout).check(node)?;
        let weights = saturating_product([window.kernel[0], window.kernel[1], cin / groups, cout]);
        if weights > MAX_ELEMENTS {
            return err("too many weights".to_owned());
        }
        Ok(Conv2dGeometry {
            h: input.h as usize,
            w: input.w as usize,
            cin,
            cout,
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            padding: window.padding,
            groups,
            oh: window.oh,
            ow: window.ow,
        })
    }

    /// One tap for every channel: the output has the shape of the input.
    pub(crate) fn per_channel(input: Shape) -> Self {
        let [h, w, c] = [input.h, input.w, input.c].map(|side| side as usize);
        let (cin, cout, groups, oh, ow) = (c, c, c, h, w);
        let (kernel, stride, dilation, padding) = ([1; 2], [1; 2], [1; 2], [0; 4]);
        Conv2dGeometry { h, w, cin, cout, kernel, stride, dilation, padding, groups, oh, ow }
    }

    /// Whether every channel is convolved by itself, with one filter per channel.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.cin && self.groups == self.cout && self.groups > 1
    }

    /// Whether every pixel is computed from the one at the same place alone, by one filter for all channels.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0; 4] && self.groups == 1
    }

    /// Multiply-adds of one image.
    pub fn macs(&self) -> usize {
        saturating_product([
            self.oh,
            self.ow,
            self.cout,
            self.kernel[0],
            self.kernel[1],
            self.cin / self.groups,
        ])
    }

    /// Elements of one input image.
    pub fn x_len(&self) -> usize {
        self.h * self.w * self.cin
    }

    /// Elements of one output image.
    pub fn y_len(&self) -> usize {
        self.oh * self.ow * self.cout
    }

    /// Elements of the weights.
    pub fn w_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * (self.cin / self.groups) * self.cout
    }

    /// The output rows `rows`, at least one, as a convolution of their own, and the rows of the input that it reads.
    pub(crate) fn band(&self, rows: Range<usize>) -> (Self, Range<usize>) {
        let extent = (self.kernel[0] - 1) * self.dilation[0] + 1;
        let (top, read) = band(&rows, self.stride[0], extent, self.padding[0], self.h);
        let mut band = Conv2dGeometry { h: read.len(), oh: rows.len(), ..*self };
        band.padding[0] = top;
        (band, read)
    }
}

/// The padding above output rows `rows` and the rows, of `size`, that their windows of `extent` rows read.
fn band(
    rows: &Range<usize>,
    stride: usize,
    extent: usize,
    padding: usize,
    size: usize,
) -> (usize, Range<usize>) {
    let start = rows.start * stride;
    let end = ((rows.end - 1) * stride + extent).saturating_sub(padding).min(size);
    (padding.saturating_sub(start), start.saturating_sub(padding).min(end)..end)
}

/// One image's pooling window in NHWC; padding never wins a maximum and is left out of an average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGeometry {
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step in height and width.
    pub stride: [usize; 2],
    /// Padding above, below, left and right.
    pub padding: [usize; 4],
    /// Output height.
    pub oh: usize,
    /// Output width.
    pub ow: usize,
}

impl PoolGeometry {
    /// Resolves a pool on an input shape.
    ///
    /// # Errors
    /// [`EngineError::Graph`] when the window does not fit, or lies in padding alone.
    pub fn new(node: &str, input: Shape, pool: &Pool2d) -> Result<Self, EngineError> {
        let window = Window::new(node, input, pool.kernel, pool.stride, [1, 1], pool.padding)?;
        let [top, bottom, left, right] = window.padding;
        if top.max(bottom) >= window.kernel[0] || left.max(right) >= window.kernel[1] {
            return Err(EngineError::graph(node, "padding must be smaller than the pooling window"));
        }
        Shape::new(window.oh, window.ow, input.c as usize).check(node)?;
        Ok(PoolGeometry {
            h: input.h as usize,
            w: input.w as usize,
            c: input.c as usize,
            kernel: window.kernel,
            stride: window.stride,
            padding: window.padding,
            oh: window.oh,
            ow: window.ow,
        })
    }

    /// The window that covers a whole image.
    pub(crate) fn global(input: Shape) -> Self {
        let [h, w, c] = [input.h, input.w, input.c].map(|side| side as usize);
        PoolGeometry { h, w, c, kernel: [h, w], stride: [h, w], padding: [0; 4], oh: 1, ow: 1 }
    }

    /// The output rows `rows`, at least one, as a pool of their own, and the rows of the input that it reads.
    pub(crate) fn band(&self, rows: Range<usize>) -> (Self, Range<usize>) {
        let (top, read) = band(&rows, self.stride[0], self.kernel[0], self.padding[0], self.h);
        let mut band = PoolGeometry { h: read.len(), oh: rows.len(), ..*self };
        band.padding[0] = top;
        (band, read)
    }

    /// Elements of one input image.
    pub fn x_len(&self) -> usize {
        self.h * self.w * self.c
    }

    /// Elements of one output image.
    pub fn y_len(&self) -> usize {
        self.oh * self.ow * self.c
    }
}

/// What convolutions and pools share: a window that slides over a padded image.
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 4],
    oh: usize,
    ow: usize,
}

impl Window {
    fn new(
        node: &str,
        input: Shape,
        kernel: [u32; 2],
        stride: [u32; 2],
        dilation: [u32; 2],
        padding: Padding,
    ) -> Result<Self, EngineError> {
        let size = [input.h as usize, input.w as usize];
        let [kernel, stride, dilation] = [kernel, stride, dilation].map(|pair| pair.map(|v| v as usize));
        for (what, pair) in [("kernel", kernel), ("stride", stride), ("dilation", dilation)] {
            let most = if what == "stride" { MAX_DIM } else { MAX_WINDOW };
            if pair.iter().any(|&v| v == 0 || v > most) {
                return Err(EngineError::graph(node, format!("{what} {pair:?} is not in 1..={most}")));
            }
        }
        let mut pads = [0; 4];
        let mut out = [0; 2];
        for axis in 0..2 {
            let span = (kernel[axis] - 1) * dilation[axis] + 1;
            let (before, after) = match padding {
                Padding::Valid => (0, 0),
                // The output covers ceil(size / stride) windows; an odd zero goes after (TensorFlow's SAME).
                Padding::Same => {
                    let total = ((size[axis].div_ceil(stride[axis]) - 1) * stride[axis] + span)
                        .saturating_sub(size[axis]);
                    (total / 2, total - total / 2)
                }
                Padding::Explicit(p) => (p[2 * axis] as usize, p[2 * axis + 1] as usize),
            };
            let padded = size[axis].saturating_add(before).saturating_add(after);
            if before > MAX_WINDOW || after > MAX_WINDOW || span > padded {
                return Err(EngineError::graph(
                    node,
                    format!(
                        "a window of {span} does not fit an input of {} (+{before}+{after} padding)",
                        size[axis]
                    ),
                ));
            }
            (pads[2 * axis], pads[2 * axis + 1]) = (before, after);
            out[axis] = (padded - span) / stride[axis] + 1;
        }
        let padded = [size[0] + pads[0] + pads[1], size[1] + pads[2] + pads[3], input.c as usize];
        if !WIDE && saturating_product(padded) > MAX_ELEMENTS {
            let [h, w, c] = padded;
            return Err(EngineError::graph(node, format!("unusable padded shape {h}x{w}x{c}")));
        }
        Ok(Window { kernel, stride, dilation, padding: pads, oh: out[0], ow: out[1] })
    }
}
