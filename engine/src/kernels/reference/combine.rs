//! Operations on more than one value.

/// `y [pixels, sum of c]`: the channels of each `x [pixels, c]`, given with its `c`, one after the other.
pub fn concat(x: &[(&[f64], usize)]) -> Vec<f64> {
    let pixels = x[0].0.len() / x[0].1;
    let mut y = Vec::new();
    for pixel in 0..pixels {
        for &(x, c) in x {
            (0..c).for_each(|i| y.push(x[pixel * c + i]));
        }
    }
    y
}

/// `dx` of each input of [`concat`] by its channels.
pub fn concat_backward(dy: &[f64], channels: &[usize]) -> Vec<Vec<f64>> {
    let all: usize = channels.iter().sum();
    let mut dx = vec![Vec::new(); channels.len()];
    for (i, &d) in dy.iter().enumerate() {
        let (mut part, mut at) = (0, i % all);
        while at >= channels[part] {
            at -= channels[part];
            part += 1;
        }
        dx[part].push(d);
    }
    dx
}

/// `y [pixels, channels.len()]`: of each pixel of `x [pixels, c]` the channels of a list.
pub fn channel_gather(x: &[f64], c: usize, channels: &[u32]) -> Vec<f64> {
    x.chunks_exact(c).flat_map(|pixel| channels.iter().map(|&channel| pixel[channel as usize])).collect()
}

/// `dx` of [`channel_gather`].
pub fn channel_gather_backward(dy: &[f64], c: usize, channels: &[u32]) -> Vec<f64> {
    let mut dx = vec![0.0; dy.len() / channels.len() * c];
    for (i, d) in dy.iter().enumerate() {
        dx[i / channels.len() * c + channels[i % channels.len()] as usize] += d;
    }
    dx
}

/// `y [pixels, c] = x [pixels, c] * s [c]`.
pub fn channel_scale(x: &[f64], s: &[f64]) -> Vec<f64> {
    x.iter().enumerate().map(|(i, x)| x * s[i % s.len()]).collect()
}

/// `(dx, ds)` of [`channel_scale`].
pub fn channel_scale_backward(x: &[f64], s: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut ds) = (vec![0.0; x.len()], vec![0.0; s.len()]);
    for i in 0..x.len() {
        dx[i] = dy[i] * s[i % s.len()];
        ds[i % s.len()] += dy[i] * x[i];
    }
    (dx, ds)
}
