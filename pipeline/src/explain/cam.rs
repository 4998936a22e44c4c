//! Maps from a layer's values and the gradient of a class's logit with respect to them.

use super::method::ExplainMethod;

/// A map `[pixels]` of one image by Grad-CAM or LayerCAM, not normalised, from `values` and `gradients`
/// `[pixels][channels]`. Nothing is negative: what speaks against the class counts as nothing.
pub(super) fn map(method: ExplainMethod, values: &[f32], gradients: &[f32], channels: usize) -> Vec<f32> {
    let pixels = values.chunks_exact(channels);
    let sum = |terms: &mut dyn Iterator<Item = f64>| terms.sum::<f64>().max(0.0) as f32;
    if method == ExplainMethod::LayerCam {
        let both = pixels.zip(gradients.chunks_exact(channels));
        let term = |(&a, &g): (&f32, &f32)| f64::from(g.max(0.0)) * f64::from(a);
        return both.map(|(a, g)| sum(&mut a.iter().zip(g).map(term))).collect();
    }
    let mut weights = vec![0.0; channels];
    for pixel in gradients.chunks_exact(channels) {
        weights.iter_mut().zip(pixel).for_each(|(weight, &g)| *weight += f64::from(g));
    }
    let count = pixels.len() as f64;
    let term = |(&a, weight): (&f32, &f64)| f64::from(a) * weight / count;
    pixels.map(|a| sum(&mut a.iter().zip(&weights).map(term))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pixels of three channels.
    const VALUES: [f32; 6] = [1.0, 2.0, 4.0, 3.0, 0.0, 1.0];
    const GRADIENTS: [f32; 6] = [1.0, -2.0, 0.0, 3.0, 0.0, -4.0];

    #[test]
    fn grad_cam_weighs_channels_by_their_mean_gradient() {
        // Weights 2, -1, -2: 2 - 2 - 8 and 6 - 0 - 2.
        assert_eq!(map(ExplainMethod::GradCam, &VALUES, &GRADIENTS, 3), [0.0, 4.0]);
    }

    #[test]
    fn layer_cam_weighs_every_value_by_its_positive_gradient() {
        // 1 and 9.
        assert_eq!(map(ExplainMethod::LayerCam, &VALUES, &GRADIENTS, 3), [1.0, 9.0]);
    }
}
