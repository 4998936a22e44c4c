//! `reliability.svg`: accuracy against probability, bin by bin (Niculescu-Mizil and Caruana, 2005).

use ocelli_common::svg::{Anchor, Svg, number, shorten};

use crate::metrics::Evaluation;

/// Side of the square plot.
const SIDE: f64 = 300.0;
/// Left, top, right and bottom of it.
const MARGIN: (f64, f64, f64, f64) = (56.0, 66.0, 24.0, 46.0);
/// Height of the strip that shows how many images a bin has.
const STRIP: f64 = 44.0;

/// The reliability diagram: of images whose most likely class has some probability, the part that is right. Bars on the
/// diagonal keep their promise; below it the model is too sure.
pub(crate) fn reliability(name: &str, evaluation: &Evaluation) -> String {
    let calibration = &evaluation.calibration;
    let (x0, y0) = (MARGIN.0, MARGIN.1);
    let (x1, y1) = (x0 + SIDE, y0 + SIDE);
    let strip_bottom = y1 + MARGIN.3 + STRIP;
    let title = format!("Reliability of {name}");
    let mut svg = Svg::new(x1 + MARGIN.2, strip_bottom + 34.0, &title);
    svg.describe(
        "For each range of probabilities: bars of the part that is right, and of the number of images",
    );
    svg.label("title", (16.0, 24.0), Anchor::Start, &shorten(name, 44));
    let ece = calibration.ece;
    let mut about = format!("{} split, {} images, ECE {ece:.4}", evaluation.split, evaluation.images);
    if let Some(before) = calibration.uncalibrated {
        about += &format!(" ({:.4} before temperature {:.2})", before.ece, calibration.temperature);
    }
    svg.label("small", (16.0, 42.0), Anchor::Start, &about);

    let x = |part: f64| x0 + part * SIDE;
    let y = |part: f64| y1 - part * SIDE;
    for tick in (0..=5).map(|i| f64::from(i) / 5.0) {
        svg.line("grid", (x0, y(tick)), (x1, y(tick)));
        svg.label("small", (x0 - 6.0, y(tick) + 3.5), Anchor::End, &number(tick, 1.0));
        svg.label("small", (x(tick), y1 + 15.0), Anchor::Middle, &number(tick, 1.0));
    }
    let most = calibration.bins.iter().map(|bin| bin.images).max().unwrap_or(0).max(1);
    for bin in calibration.bins.iter().filter(|bin| bin.images > 0) {
        let (low, high) = (f64::from(bin.low), f64::from(bin.high));
        let (left, width) = (x(low) + 0.5, (high - low) * SIDE - 1.0);
        let hover = format!(
            "{low:.2} to {high:.2}: {} images, mean probability {:.3}, right {:.3}",
            bin.images, bin.confidence, bin.accuracy
        );
        let accuracy = f64::from(bin.accuracy);
        svg.rect(
            "fill=\"#0072b2\" fill-opacity=\".55\"",
            (left, y(accuracy)),
            (width, accuracy * SIDE),
            &hover,
        );
        let height = bin.images as f64 / most as f64 * STRIP;
        svg.rect(
            "class=\"empty\" style=\"fill-opacity:.4\"",
            (left, strip_bottom - height),
            (width, height),
            &hover,
        );
    }
    for bin in calibration.bins.iter().filter(|bin| bin.images > 0) {
        svg.circle("dot-val", (x(f64::from(bin.confidence)), y(f64::from(bin.accuracy))), 3.0);
    }
    svg.line("best", (x0, y1), (x1, y0));
    svg.polyline("axis", &[(x0, y0), (x0, y1), (x1, y1)]);
    svg.label("name", (x0, y0 - 8.0), Anchor::Start, "part that is right");
    svg.label("small", ((x0 + x1) / 2.0, y1 + 30.0), Anchor::Middle, "probability of the most likely class");
    svg.line("axis", (x0, strip_bottom), (x1, strip_bottom));
    svg.label(
        "small",
        ((x0 + x1) / 2.0, strip_bottom + 16.0),
        Anchor::Middle,
        &format!("images (highest bar: {most})"),
    );
    svg.finish()
}
