//! What random changes write: normalised images of one size.

/// Size and normalisation of the images that are written.
pub(crate) struct Frame<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Of each channel on the scale 0..1.
    pub(crate) mean: &'a [f32],
    pub(crate) std: &'a [f32],
}

impl Frame<'_> {
    pub(crate) fn channels(&self) -> usize {
        self.mean.len()
    }
}
