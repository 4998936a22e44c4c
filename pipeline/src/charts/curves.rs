//! `curves.svg`: loss and accuracy over the epochs.

use crate::progress::EpochRow;
use ocelli_common::svg::{Anchor, Svg, number, shorten, ticks};

const PANEL_WIDTH: f64 = 420.0;
const PANEL_HEIGHT: f64 = 240.0;
/// Left, top, right and bottom of a panel's plot.
const MARGIN: (f64, f64, f64, f64) = (52.0, 52.0, 18.0, 40.0);

/// Points of a line beyond which neighbours would share a pixel.
const MAX_POINTS: usize = 2000;
/// Lines with fewer points show them as dots.
const MAX_DOTS: usize = 40;

/// Loss and accuracy over the epochs, training and validation, the best epoch marked.
pub(crate) fn curves(name: &str, rows: &[EpochRow], best_epoch: Option<u32>) -> String {
    let mut svg = Svg::new(2.0 * PANEL_WIDTH, PANEL_HEIGHT + 28.0, &format!("Training curves of {name}"));
    svg.label("title", (MARGIN.0, 22.0), Anchor::Start, &shorten(name, 90));
    let losses =
        [Line::new("train", rows, |row| Some(row.train_loss)), Line::new("val", rows, |row| row.val_loss)];
    let accuracies = [
        Line::new("train", rows, |row| Some(row.train_accuracy)),
        Line::new("val", rows, |row| row.val_accuracy),
    ];
    panel(&mut svg, 0.0, "loss", &losses, best_epoch);
    // Of images with several labels the accuracy says little.
    let precisions = [Line::new("val", rows, |row| row.val_map)];
    match precisions[0].points.is_empty() {
        true => panel(&mut svg, PANEL_WIDTH, "accuracy", &accuracies, best_epoch),
        false => panel(&mut svg, PANEL_WIDTH, "mean average precision", &precisions, best_epoch),
    }
    svg.finish()
}

/// A curve: epochs and values.
struct Line {
    class: &'static str,
    points: Vec<(f64, f64)>,
}

impl Line {
    fn new(class: &'static str, rows: &[EpochRow], value: impl Fn(&EpochRow) -> Option<f64>) -> Self {
        let step = rows.len().div_ceil(MAX_POINTS).max(1);
        let point = |row: &EpochRow| {
            let value = value(row)?;
            value.is_finite().then_some((f64::from(row.epoch), value))
        };
        Line { class, points: rows.iter().rev().step_by(step).rev().filter_map(point).collect() }
    }
}

fn panel(svg: &mut Svg, left: f64, what: &str, lines: &[Line], best_epoch: Option<u32>) {
    let (x0, y0) = (left + MARGIN.0, MARGIN.1);
    let (x1, y1) = (left + PANEL_WIDTH - MARGIN.2, PANEL_HEIGHT - MARGIN.3 + 28.0);
    let points = || lines.iter().flat_map(|line| &line.points);
    let bounds = |pick: fn(&(f64, f64)) -> f64| {
        points().map(pick).fold(None, |range: Option<(f64, f64)>, v| {
            Some(range.map_or((v, v), |(low, high)| (low.min(v), high.max(v))))
        })
    };
    let (first, last) = bounds(|p| p.0).unwrap_or((1.0, 1.0));
    let (low, high) = bounds(|p| p.1).unwrap_or((0.0, 1.0));
    let ticks_y = ticks(low, high, 5);
    let (low, high) = (ticks_y[0], ticks_y[ticks_y.len() - 1]);
    let x =
        |v: f64| if last > first { x0 + (v - first) / (last - first) * (x1 - x0) } else { (x0 + x1) / 2.0 };
    let y = |v: f64| y1 - (v - low) / (high - low) * (y1 - y0);

    for &tick in &ticks_y {
        svg.line("grid", (x0, y(tick)), (x1, y(tick)));
        svg.label("small", (x0 - 6.0, y(tick) + 3.5), Anchor::End, &number(tick, high - low));
    }
    let whole = |tick: &f64| tick.fract() == 0.0 && (first..=last).contains(tick);
    for tick in ticks(first, last.max(first + 1.0), 8).into_iter().filter(whole) {
        svg.line("axis", (x(tick), y1), (x(tick), y1 + 4.0));
        svg.label("small", (x(tick), y1 + 16.0), Anchor::Middle, &tick.to_string());
    }
    svg.polyline("axis", &[(x0, y0), (x0, y1), (x1, y1)]);
    svg.label("small", ((x0 + x1) / 2.0, y1 + 31.0), Anchor::Middle, "epoch");
    svg.label("name", (x0, y0 - 10.0), Anchor::Start, what);
    if let Some(best) = best_epoch.map(f64::from).filter(|best| (first..=last).contains(best)) {
        svg.line("best", (x(best), y0), (x(best), y1));
        let at_end = x(best) > x1 - 70.0;
        let (offset, anchor) = if at_end { (-4.0, Anchor::End) } else { (4.0, Anchor::Start) };
        let middle = y0 + 12.0 + if what == "loss" { 0.0 } else { (y1 - y0) - 22.0 };
        svg.label("small", (x(best) + offset, middle), anchor, &format!("best: {best}"));
    }
    let mut legend = x1;
    for line in lines.iter().rev().filter(|line| !line.points.is_empty()) {
        svg.label("small", (legend, y0 - 10.0), Anchor::End, line.class);
        svg.line(line.class, (legend - 52.0, y0 - 13.5), (legend - 28.0, y0 - 13.5));
        legend -= 66.0;
        let points: Vec<(f64, f64)> = line.points.iter().map(|&(a, b)| (x(a), y(b))).collect();
        svg.polyline(line.class, &points);
        if points.len() < MAX_DOTS {
            points.iter().for_each(|&point| svg.circle(&format!("dot-{}", line.class), point, 2.5));
        }
    }
}
