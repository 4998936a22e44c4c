//! The charts of the report. Colours and dashes are classes `c0`..`c5` of the page.

use ocelli_common::svg::{Anchor, Svg, number, ticks};

use crate::settings::Load;
use crate::statistics::level::{Latency, Level};

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 280.0;
/// Left, top, right and bottom of the plot.
const MARGIN: (f64, f64, f64, f64) = (58.0, 58.0, 18.0, 46.0);
/// Lines that are told apart in one chart; of more levels, some are drawn.
pub(crate) const MAX_LINES: usize = 6;
/// Lines with fewer points show them as dots.
const MAX_DOTS: usize = 40;
/// Quantiles that are marked.
const MARKS: [(f64, &str); 7] = [
    (0.0, "0"),
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
];

/// Good answers a second of every level.
pub(crate) fn throughput(levels: &[Level]) -> String {
    let points = levels.iter().enumerate().map(|(i, level)| (i as f64, level.ok_per_second)).collect();
    let lines = [Line { name: "answers/s".to_owned(), points }];
    let about = format!("Good answers a second by {}; the table below has the numbers.", unit(levels));
    by_level("Throughput", &about, levels, &lines)
}

/// Median and 99th percentile of every level.
pub(crate) fn latency(levels: &[Level]) -> String {
    let line = |name: &str, value: fn(&Latency) -> f64| {
        let point = |(i, level): (usize, &Level)| Some((i as f64, value(level.latency_ms.as_ref()?)));
        Line { name: name.to_owned(), points: levels.iter().enumerate().filter_map(point).collect() }
    };
    let lines = [line("p50", |latency| latency.p50), line("p99", |latency| latency.p99)];
    let about = format!("Milliseconds by {}; the table below has the numbers.", unit(levels));
    by_level("Latency, ms", &about, levels, &lines)
}

/// Latency over the part of answers that were at least as fast.
pub(crate) fn distribution(levels: &[Level]) -> String {
    let scale = |quantile: f64| -(1.0 - quantile).log10();
    let lines = lines(levels, |level| {
        // A logarithm of nothing: answers take at least the resolution of the clock.
        level.distribution.iter().map(|&(quantile, ms)| (scale(quantile), ms.max(1e-4).log10())).collect()
    });
    let about = "Milliseconds on a logarithmic axis over percentiles on an axis of nines.";
    let mut svg = start("Latency by percentile, ms", about, &lines);
    let values = || lines.iter().flat_map(|line| &line.points);
    let furthest = values().map(|point| point.0).fold(1.0, f64::max);
    let low = values().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = values().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let marks = decades(if low.is_finite() { (low, high) } else { (-1.0, 1.0) });
    let plot = Plot::new((0.0, furthest), (marks[0].log10(), marks[marks.len() - 1].log10()));
    for mark in marks {
        plot.row(&mut svg, mark.log10(), &number(mark, mark));
    }
    for (quantile, name) in MARKS.into_iter().filter(|(quantile, _)| scale(*quantile) <= furthest + 1e-9) {
        plot.column(&mut svg, scale(quantile), name);
    }
    plot.finish(svg, "percentile", &lines)
}

/// Good answers a second while time goes by.
pub(crate) fn time_line(levels: &[Level]) -> String {
    let lines = lines(levels, |level| {
        level.moments.iter().map(|moment| (moment.second, moment.ok_per_second)).collect()
    });
    let mut svg = start("Answers a second over time", "One line for each level of load.", &lines);
    let values = || lines.iter().flat_map(|line| &line.points);
    let last = values().map(|point| point.0).fold(0.1, f64::max);
    let rows = ticks(0.0, values().map(|point| point.1).fold(1.0, f64::max), 5);
    let plot = Plot::new((0.0, last), (0.0, rows[rows.len() - 1]));
    for &row in &rows {
        plot.row(&mut svg, row, &number(row, rows[rows.len() - 1]));
    }
    for column in ticks(0.0, last, 6).into_iter().filter(|second| *second <= last) {
        plot.column(&mut svg, column, &number(column, last));
    }
    plot.finish(svg, "seconds", &lines)
}

/// What the numbers of levels count.
fn unit(levels: &[Level]) -> &'static str {
    match levels.first().map(|level| level.load) {
        Some(Load::Open { .. }) => "requests a second that were sent",
        _ => "connections",
    }
}

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// A line for each level, or for as many as can be told apart, first and last among them.
fn lines(levels: &[Level], points: impl Fn(&Level) -> Vec<(f64, f64)>) -> Vec<Line> {
    let most = levels.len().min(MAX_LINES);
    let pick = |i: usize| if most > 1 { i * (levels.len() - 1) / (most - 1) } else { 0 };
    let chosen = (0..most).map(|i| &levels[pick(i)]);
    chosen.map(|level| Line { name: level.number().to_string(), points: points(level) }).collect()
}

/// Values of all levels, which stand side by side whatever their numbers are.
fn by_level(title: &str, about: &str, levels: &[Level], lines: &[Line]) -> String {
    let mut svg = start(title, about, lines);
    let high = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    let rows = ticks(0.0, high, 5);
    let plot = Plot::new((-0.25, levels.len() as f64 - 0.75), (0.0, rows[rows.len() - 1]));
    for &row in &rows {
        plot.row(&mut svg, row, &number(row, rows[rows.len() - 1]));
    }
    let step = levels.len().div_ceil(10).max(1);
    for (i, level) in levels.iter().enumerate().step_by(step) {
        plot.column(&mut svg, i as f64, &level.number().to_string());
    }
    plot.finish(svg, unit(levels), lines)
}

/// A chart with its title and what its lines are.
fn start(title: &str, about: &str, lines: &[Line]) -> Svg {
    let mut svg = Svg::new(WIDTH, HEIGHT, title);
    svg.describe(about);
    svg.label("title", (16.0, 22.0), Anchor::Start, title);
    let room = (WIDTH - 32.0) / MAX_LINES as f64;
    for (i, line) in lines.iter().enumerate() {
        let left = 16.0 + room * i as f64;
        svg.line(&format!("line c{i}"), (left, 38.0), (left + 20.0, 38.0));
        svg.label("small", (left + 24.0, 41.5), Anchor::Start, &line.name);
    }
    svg
}

/// Where values are drawn.
struct Plot {
    x: (f64, f64),
    y: (f64, f64),
}

impl Plot {
    const LEFT: f64 = MARGIN.0;
    const TOP: f64 = MARGIN.1;
    const RIGHT: f64 = WIDTH - MARGIN.2;
    const BOTTOM: f64 = HEIGHT - MARGIN.3;

    fn new(x: (f64, f64), y: (f64, f64)) -> Plot {
        Plot { x, y }
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let part = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        let (right, down) = (part(x, self.x), 1.0 - part(y, self.y));
        (Self::LEFT + right * (Self::RIGHT - Self::LEFT), Self::TOP + down * (Self::BOTTOM - Self::TOP))
    }

    /// A line across at a value.
    fn row(&self, svg: &mut Svg, value: f64, text: &str) {
        let (_, y) = self.at((self.x.0, value));
        svg.line("grid", (Self::LEFT, y), (Self::RIGHT, y));
        svg.label("small", (Self::LEFT - 6.0, y + 3.5), Anchor::End, text);
    }

    /// A mark below a value.
    fn column(&self, svg: &mut Svg, value: f64, text: &str) {
        let (x, _) = self.at((value, self.y.0));
        svg.line("axis", (x, Self::BOTTOM), (x, Self::BOTTOM + 4.0));
        svg.label("small", (x, Self::BOTTOM + 16.0), Anchor::Middle, text);
    }

    /// Axes and lines.
    fn finish(&self, mut svg: Svg, what: &str, lines: &[Line]) -> String {
        let corner = (Self::LEFT, Self::BOTTOM);
        svg.polyline("axis", &[(Self::LEFT, Self::TOP), corner, (Self::RIGHT, Self::BOTTOM)]);
        svg.label("small", ((Self::LEFT + Self::RIGHT) / 2.0, Self::BOTTOM + 34.0), Anchor::Middle, what);
        for (i, line) in lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty()) {
            let points: Vec<(f64, f64)> = line.points.iter().map(|&point| self.at(point)).collect();
            svg.polyline(&format!("line c{i}"), &points);
            if points.len() < MAX_DOTS {
                points.iter().for_each(|&point| svg.circle(&format!("dot c{i}"), point, 2.5));
            }
        }
        svg.finish()
    }
}

/// Round numbers around a range of logarithms: 1, 2 and 5 times powers of ten, or powers alone where these are many.
fn decades((low, high): (f64, f64)) -> Vec<f64> {
    let powers = low.floor() as i32 - 1..=high.ceil() as i32 + 1;
    let steps: &[f64] = if high - low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all: Vec<f64> =
        powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power))).collect();
    let first = all.iter().rposition(|mark| mark.log10() <= low).unwrap_or(0);
    let last = all.iter().position(|mark| mark.log10() >= high).unwrap_or(all.len() - 1);
    all[first..=last.max(first + 1)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_surround_the_range() {
        for (low, high) in [(0.05f64, 0.3f64), (1.0, 1.0), (0.3, 900.0), (0.0001, 86_400_000.0), (7.0, 7.1)] {
            let marks = decades((low.log10(), high.log10()));
            assert!((2..=13).contains(&marks.len()), "{low} {high}: {marks:?}");
            assert!(marks[0] <= low * 1.000_001 && marks[marks.len() - 1] >= high * 0.999_999, "{marks:?}");
        }
    }
}
