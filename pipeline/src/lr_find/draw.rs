//! The curve of a range test as files.

use std::fmt::Write as _;

use ocelli_common::svg::{Anchor, Svg, number, ticks};

use super::range_test::LrFind;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Left, top, right and bottom of the plot.
const MARGIN: (f64, f64, f64, f64) = (60.0, 52.0, 24.0, 48.0);
/// Times the lowest loss up to which the axis goes: what has diverged would flatten the rest.
const SHOWN: f32 = 4.0;

impl LrFind {
    /// `lr_find.csv`: one step a line.
    pub fn to_csv(&self) -> String {
        let mut text = "step,lr,loss,smoothed_loss\n".to_owned();
        for (step, point) in self.points.iter().enumerate() {
            writeln!(text, "{},{:e},{},{}", step + 1, point.lr, point.loss, point.smoothed)
                .expect("writing to a string cannot fail");
        }
        text
    }

    /// `lr_find.svg`: smoothed loss over the logarithm of the rate, the suggestions marked.
    pub fn to_svg(&self) -> String {
        let mut svg = Svg::new(WIDTH, HEIGHT, "Learning rate range test");
        svg.label("title", (MARGIN.0, 24.0), Anchor::Start, "Loss by learning rate");
        let (x0, y0, x1, y1) = (MARGIN.0, MARGIN.1, WIDTH - MARGIN.2, HEIGHT - MARGIN.3);
        let losses = || self.points.iter().map(|point| point.smoothed);
        let low = losses().fold(f32::INFINITY, f32::min);
        let high = losses().fold(f32::NEG_INFINITY, f32::max).min(SHOWN * low);
        let (Some(first), Some(last), true) =
            (self.points.first(), self.points.last(), low.is_finite() && high.is_finite())
        else {
            svg.label("small", (x0, y0), Anchor::Start, "the loss was not a number at the first step");
            return svg.finish();
        };
        let levels = ticks(low.into(), high.into(), 5);
        let (low, high) = (levels[0], levels[levels.len() - 1]);
        let (from, to) = (f64::from(first.lr).log10(), f64::from(last.lr).log10());
        let x = |lr: f64| x0 + (lr.log10() - from) / (to - from).max(1e-9) * (x1 - x0);
        let y = |loss: f64| y1 - (loss - low) / (high - low).max(1e-9) * (y1 - y0);
        for &level in &levels {
            svg.line("grid", (x0, y(level)), (x1, y(level)));
            svg.label("small", (x0 - 6.0, y(level) + 3.5), Anchor::End, &number(level, high - low));
        }
        for power in from.ceil() as i32..=to.floor() as i32 {
            let at = x(10f64.powi(power));
            svg.line("axis", (at, y1), (at, y1 + 4.0));
            svg.label("small", (at, y1 + 16.0), Anchor::Middle, &format!("1e{power}"));
        }
        svg.polyline("axis", &[(x0, y0), (x0, y1), (x1, y1)]);
        svg.label("small", ((x0 + x1) / 2.0, y1 + 34.0), Anchor::Middle, "learning rate");
        svg.label("small", (x0, y0 - 10.0), Anchor::Start, "smoothed loss");
        let points: Vec<(f64, f64)> = self
            .points
            .iter()
            .map(|point| (x(point.lr.into()), y(f64::from(point.smoothed).min(high))))
            .collect();
        svg.polyline("train", &points);
        for (line, (name, lr)) in [("steepest", self.steepest), ("valley", self.valley)].iter().enumerate() {
            let Some(lr) = *lr else { continue };
            let at = x(lr.into());
            svg.line("best", (at, y0), (at, y1));
            let height = y0 + 12.0 + 14.0 * line as f64;
            svg.label("small", (at + 4.0, height), Anchor::Start, &format!("{name}: {lr:.2e}"));
        }
        svg.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lr_find::range_test::LrPoint;

    fn found(points: Vec<LrPoint>) -> LrFind {
        LrFind { points, steepest: Some(1e-3), valley: Some(2e-4), diverged: false }
    }

    #[test]
    fn curves_of_any_length_are_written() {
        for count in [0, 1, 2, 100] {
            let point = |i: usize| LrPoint { lr: 1e-7 * (1.2f32).powi(i as i32), loss: 2.0, smoothed: 2.0 };
            let curve = found((0..count).map(point).collect());
            assert_eq!(curve.to_csv().lines().count(), count + 1);
            let svg = curve.to_svg();
            assert!(svg.starts_with("<svg") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        let text = found(vec![LrPoint { lr: 1e-3, loss: 2.5, smoothed: 2.25 }]).to_csv();
        assert_eq!(text, "step,lr,loss,smoothed_loss\n1,1e-3,2.5,2.25\n");
    }
}
