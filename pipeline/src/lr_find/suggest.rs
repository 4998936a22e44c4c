//! Learning rates that the curve of a range test suggests, by the definitions of fastai.

/// The parts at the ends of a curve that say nothing: the average of the loss is young, and the loss has blown up.
const FIRST: usize = 10;
const LAST: usize = 5;

/// Rates, rising, and smoothed losses without the ends of the curve.
pub(super) fn middle<'a>(lrs: &'a [f32], losses: &'a [f32]) -> (&'a [f32], &'a [f32]) {
    let from = (lrs.len() / FIRST).min(lrs.len());
    let to = lrs.len().saturating_sub(LAST).max(from);
    (&lrs[from..to], &losses[from..to])
}

/// The rate at which the loss falls fastest over the logarithm of the rate; none where it never falls.
pub(super) fn steepest(lrs: &[f32], losses: &[f32]) -> Option<f32> {
    let slope = |i: usize| f64::from(losses[i + 1] - losses[i]) / f64::from(lrs[i + 1] / lrs[i]).ln();
    let at = (0..lrs.len().saturating_sub(1)).min_by(|&a, &b| slope(a).total_cmp(&slope(b)))?;
    (slope(at) < 0.0).then(|| lrs[at])
}

/// The rate two thirds into the longest falling subsequence of the loss; none where it never falls.
pub(super) fn valley(lrs: &[f32], losses: &[f32]) -> Option<f32> {
    let mut lengths = vec![1usize; losses.len()];
    let mut end = 0;
    for i in 1..losses.len() {
        for j in 0..i {
            if losses[i] < losses[j] {
                lengths[i] = lengths[i].max(lengths[j] + 1);
            }
        }
        if lengths[end] < lengths[i] {
            end = i;
        }
    }
    if lengths.get(end).is_none_or(|&length| length < 2) {
        return None;
    }
    // As fastai counts: as many points back as the subsequence is long, then a third and half a third of that.
    let start = end.saturating_sub(lengths[end]);
    let third = (end - start) as f64 / 3.0;
    Some(lrs[start + third as usize + (third / 2.0) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(count: usize) -> Vec<f32> {
        (0..count).map(|i| 1e-7 * 1e8f32.powf(i as f32 / (count - 1) as f32)).collect()
    }

    /// Flat, a fall around `1e-3`, then up.
    fn curve(lrs: &[f32]) -> Vec<f32> {
        let loss = |lr: f32| {
            let x = lr.log10() + 3.0;
            2.3 - 1.0 / (1.0 + (-3.0 * x).exp()) + (x - 1.5).max(0.0).powi(2)
        };
        lrs.iter().map(|&lr| loss(lr)).collect()
    }

    #[test]
    fn the_steepest_point_is_found() {
        let lrs = rates(100);
        let found = steepest(&lrs, &curve(&lrs)).unwrap();
        assert!((6e-4..2e-3).contains(&found), "{found}");
    }

    #[test]
    fn the_valley_is_as_fastai_computes_it() {
        // `valley` of fastai/callback/schedule.py on these losses: end 7, length 5, start 2, index 2 + 1 + 0 = 3.
        let lrs = rates(10);
        let losses = [2.0, 2.1, 1.9, 1.95, 1.8, 1.7, 1.75, 1.5, 1.6, 3.0];
        assert_eq!(valley(&lrs, &losses), Some(lrs[3]));
        let lrs = rates(100);
        let found = valley(&lrs, &curve(&lrs)).unwrap();
        assert!((1e-6..1e-2).contains(&found), "{found}");
    }

    #[test]
    fn without_a_fall_nothing_is_suggested() {
        for losses in [vec![], vec![1.0], vec![1.0; 20], (0..20).map(|i| i as f32).collect()] {
            let lrs = rates(losses.len().max(2))[..losses.len()].to_vec();
            assert_eq!((steepest(&lrs, &losses), valley(&lrs, &losses)), (None, None), "{losses:?}");
        }
    }

    #[test]
    fn the_ends_of_short_curves_are_cut_without_a_panic() {
        for count in 0..30 {
            let lrs = rates(30)[..count].to_vec();
            let (middle_lrs, losses) = middle(&lrs, &lrs);
            assert_eq!(middle_lrs.len(), losses.len());
            assert!(middle_lrs.len() + count / FIRST + LAST <= count || middle_lrs.is_empty());
        }
    }
}
