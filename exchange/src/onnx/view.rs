//! What a value of an ONNX graph is here: a value of the engine, which lies in memory as `h x w x c`, seen through the
//! dimensions that ONNX gives it.
//!
//! Each dimension but the batch is a list of factors, outermost first, each of a stride into that memory and a size; factors
//! of size 1 are left out. A value in `N, C, H, W` has the dimensions `[(1, c)] [(w c, h)] [(c, w)]`. Transposing permutes
//! dimensions and reshaping cuts and joins their factors, so neither moves anything in memory: channels that are shuffled, images that
//! are flattened and whole networks in `N, H, W, C` follow from this one form. All factors of a view together reach each
//! element once.

use ocelli_engine::Shape;

/// What stands for the number of images in shapes: a prime that is larger than any other dimension, so that arithmetic of
/// shapes keeps it apart.
pub(super) const BATCH: i64 = i32::MAX as i64;

/// A part of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Factor {
    /// Distance of two neighbours in memory.
    pub(super) stride: usize,
    pub(super) size: usize,
}

/// A dimension: factors, outermost first.
pub(super) type Axis = Vec<Factor>;

/// A value, seen through dimensions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    /// The value in the steps.
    pub(super) value: u32,
    /// Shape of that value.
    pub(super) shape: Shape,
    /// All dimensions but the first, which is the batch.
    pub(super) axes: Vec<Axis>,
}

impl View {
    /// A value of a shape in the order `N, C, H, W`.
    pub(super) fn nchw(value: u32, shape: Shape) -> Self {
        let [h, w, c] = sides(shape);
        View { value, shape, axes: vec![axis(1, c), axis(w * c, h), axis(c, w)] }
    }

    /// A value of a shape in the order `N, H, W, C`.
    pub(super) fn nhwc(value: u32, shape: Shape) -> Self {
        let [h, w, c] = sides(shape);
        View { value, shape, axes: vec![axis(w * c, h), axis(c, w), axis(1, c)] }
    }

    /// The same dimensions of another value that lies in memory as this one does.
    pub(super) fn with(&self, value: u32) -> Self {
        View { value, ..self.clone() }
    }

    /// Its dimensions, the batch first.
    pub(super) fn dims(&self) -> Vec<i64> {
        std::iter::once(BATCH).chain(self.axes.iter().map(|axis| size(axis) as i64)).collect()
    }

    /// The dimensions as text: `Nx64x56x56`.
    pub(super) fn text(&self) -> String {
        self.axes.iter().fold("N".to_owned(), |text, axis| format!("{text}x{}", size(axis)))
    }

    /// Its dimensions in another order, of dimensions that count the batch as 0.
    pub(super) fn transpose(&self, order: &[i64]) -> Result<Self, String> {
        let rank = self.axes.len() + 1;
        let mut seen = vec![false; rank];
        let order: Option<Vec<usize>> = order
            .iter()
            .map(|&from| {
                let from = usize::try_from(from).ok().filter(|&from| from < rank)?;
                (!std::mem::replace(&mut seen[from], true)).then_some(from)
            })
            .collect();
        match order.as_deref() {
            Some([0, rest @ ..]) if rest.len() + 1 == rank => {
                let axes = rest.iter().map(|&from| self.axes[from - 1].clone()).collect();
                Ok(View { axes, ..self.clone() })
            }
            Some(_) => Err("moves the batch, which must stay the first dimension".to_owned()),
            None => Err("has an order that is none of its dimensions".to_owned()),
        }
    }

    /// The same elements in the same order with other dimensions, given without the batch. `None` where a dimension would be
    /// cut across a step in memory.
    pub(super) fn reshape(&self, sizes: &[usize]) -> Option<Self> {
        let mut factors = joined(self.axes.iter().flatten());
        factors.reverse();
        let mut axes = Vec::with_capacity(sizes.len());
        for &target in sizes {
            let (mut rest, mut axis) = (target, Vec::new());
            while rest > 1 {
                let factor = factors.pop()?;
                if rest % factor.size == 0 {
                    rest /= factor.size;
                    axis.push(factor);
                } else if factor.size % rest == 0 {
                    let inner = factor.size / rest;
                    axis.push(Factor { stride: factor.stride * inner, size: rest });
                    factors.push(Factor { stride: factor.stride, size: inner });
                    rest = 1;
                } else {
                    return None;
                }
            }
            axes.push(joined(&axis));
        }
        factors.is_empty().then(|| View { axes, ..self.clone() })
    }

    /// Whether a factor steps through channels alone.
    fn is_channels(&self, factor: Factor) -> bool {
        factor.stride * factor.size <= self.shape.c as usize
    }

    /// Whether a factor steps through pixels alone.
    fn is_pixels(&self, factor: Factor) -> bool {
        factor.stride.is_multiple_of(self.shape.c as usize)
    }

    /// Whether a dimension steps through channels alone; one of size 1 does.
    pub(super) fn has_channels(&self, axis: &Axis) -> bool {
        axis.iter().all(|&factor| self.is_channels(factor))
    }

    /// Whether a dimension steps through pixels alone; one of size 1 does.
    pub(super) fn has_pixels(&self, axis: &Axis) -> bool {
        axis.iter().all(|&factor| self.is_pixels(factor))
    }

    /// Whether each factor is of channels or of pixels.
    pub(super) fn is_pure(&self) -> bool {
        self.axes.iter().flatten().all(|&factor| self.is_channels(factor) || self.is_pixels(factor))
    }

    /// The view after its channels were gathered in the order in which its dimensions count them, `count` instead of
    /// `shape.c` in dimension `changed` alone.
    pub(super) fn gathered(&self, value: u32, changed: Option<(usize, usize)>) -> Self {
        let (old, mut axes) = (self.shape.c as usize, self.axes.clone());
        let channel_size = |axis: &Axis| {
            axis.iter()
                .filter(|&&factor| self.is_channels(factor))
                .map(|factor| factor.size)
                .product::<usize>()
        };
        let mut sizes: Vec<usize> = self.axes.iter().map(channel_size).collect();
        if let Some((axis, count)) = changed {
            sizes[axis] = count;
        }
        let new: usize = sizes.iter().product();
        let mut stride = new;
        for (axis, &count) in axes.iter_mut().zip(&sizes) {
            stride /= count;
            let pixels = axis.iter().filter(|&&factor| !self.is_channels(factor));
            let pixels = pixels.map(|factor| Factor { stride: factor.stride / old * new, size: factor.size });
            let channels = Factor { stride, size: count };
            *axis = pixels.chain((count > 1).then_some(channels)).collect();
        }
        View { value, shape: Shape { c: new as u32, ..self.shape }, axes }
    }

    /// The channel in memory of each channel, in the order in which the dimensions count them, where `chosen` picks from one
    /// dimension's.
    pub(super) fn channels(&self, chosen: Option<(usize, &[usize])>) -> Vec<usize> {
        let mut all = vec![0];
        for (index, axis) in self.axes.iter().enumerate() {
            let own: Axis = axis.iter().copied().filter(|&factor| self.is_channels(factor)).collect();
            let own = offsets(&own);
            let own = match chosen {
                Some((which, chosen)) if which == index => chosen.iter().map(|&i| own[i]).collect(),
                _ => own,
            };
            if own.len() != 1 || own[0] != 0 {
                all = all.iter().flat_map(|&outer| own.iter().map(move |&inner| outer + inner)).collect();
            }
        }
        all
    }
}

/// Places in memory along a dimension.
pub(super) fn offsets(axis: &[Factor]) -> Vec<usize> {
    axis.iter().fold(vec![0], |all, factor| {
        all.iter().flat_map(|&outer| (0..factor.size).map(move |i| outer + i * factor.stride)).collect()
    })
}

/// Size of a dimension.
pub(super) fn size(axis: &[Factor]) -> usize {
    axis.iter().map(|factor| factor.size).product()
}

/// A dimension of one factor; of none where its size is 1.
pub(super) fn axis(stride: usize, size: usize) -> Axis {
    if size == 1 { Vec::new() } else { vec![Factor { stride, size }] }
}

/// Height, width and channels.
pub(super) fn sides(shape: Shape) -> [usize; 3] {
    [shape.h, shape.w, shape.c].map(|side| side as usize)
}

/// Factors with those joined that are one step through memory.
fn joined<'a>(factors: impl IntoIterator<Item = &'a Factor>) -> Axis {
    let mut all: Axis = Vec::new();
    for factor in factors {
        match all.last_mut() {
            Some(last) if last.stride == factor.stride * factor.size => {
                *last = Factor { stride: factor.stride, size: last.size * factor.size };
            }
            _ => all.push(*factor),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flattening_gives_the_order_of_onnx() {
        let view = View::nchw(1, Shape::new(2, 3, 4));
        let flat = view.reshape(&[24]).unwrap();
        let places = offsets(&flat.axes[0]);
        // Element c, h, w of the file lies at (h * 3 + w) * 4 + c.
        assert_eq!(places[..7], [0, 4, 8, 12, 16, 20, 1]);
        assert_eq!(flat.reshape(&[4, 2, 3]).unwrap(), view);
        assert_eq!(view.dims(), [BATCH, 4, 2, 3]);
    }

    #[test]
    fn shuffles_are_an_order_of_channels() {
        let view = View::nchw(1, Shape::new(2, 2, 6));
        let shuffled = view.reshape(&[2, 3, 2, 2]).unwrap().transpose(&[0, 2, 1, 3, 4]).unwrap();
        let shuffled = shuffled.reshape(&[6, 2, 2]).unwrap();
        assert_eq!(shuffled.channels(None), [0, 3, 1, 4, 2, 5]);
        assert!(shuffled.is_pure());
        assert_eq!(shuffled.gathered(2, None), View::nchw(2, Shape::new(2, 2, 6)));
    }

    #[test]
    fn networks_in_nhwc_are_views() {
        let shape = Shape::new(2, 3, 4);
        let view = View::nchw(1, shape).transpose(&[0, 2, 3, 1]).unwrap();
        assert_eq!(view, View::nhwc(1, shape));
        let flat = view.reshape(&[24]).unwrap();
        assert_eq!(flat.axes[0], axis(1, 24));
        assert!(!flat.is_pure() && view.is_pure());
        assert!(view.transpose(&[1, 0, 2, 3]).is_err() && view.transpose(&[0, 1, 1, 2]).is_err());
    }
}
