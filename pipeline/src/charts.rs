//! `curves.svg` and `confusion_matrix.svg`.

use crate::metrics::Evaluation;
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

/// Classes beyond which a matrix is not drawn whole: a cell would be smaller than a pointer can hit.
const MAX_DRAWN_CLASSES: usize = 100;
/// Classes up to which cells hold numbers.
const MAX_NUMBERED: usize = 30;
/// Characters of a class name on an axis.
const MAX_LABEL: usize = 18;

/// Right answers are blue, wrong ones vermilion: colour-blind people tell them apart, and tints of them go with light and
/// dark pages.
const RIGHT: &str = "#005a9c";
const WRONG: &str = "#d55e00";
/// Opacity above which white text reads better than the page's.
const WHITE_FROM: f64 = 0.75;

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
    panel(&mut svg, PANEL_WIDTH, "accuracy", &accuracies, best_epoch);
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

/// The confusion matrix as a heat map: tint by the part of a class's images, numbers where there is room. Of more than
/// 100 classes the ones with most mistakes are drawn.
pub(crate) fn confusion_matrix(name: &str, evaluation: &Evaluation) -> String {
    let classes = worst_classes(evaluation);
    let n = classes.len();
    let of_all = evaluation.per_class.len();
    let cell = (620.0 / n.max(1) as f64).clamp(8.0, 52.0);
    let longest = classes.iter().map(|&c| evaluation.per_class[c].name.chars().count()).max().unwrap_or(0);
    let font = (cell * 0.62).clamp(6.0, 12.0);
    let room = (longest.min(MAX_LABEL) as f64 * font * 0.62 + 34.0).max(60.0);
    let top = 64.0;
    let side = cell * n as f64;
    let (width, height) = ((room + side + 24.0).max(460.0), top + side + room + 8.0);
    let mut svg = Svg::new(width, height, &format!("Confusion matrix of {name}"));
    svg.label("title", (16.0, 24.0), Anchor::Start, &shorten(name, 60));
    let percent = 100.0 * evaluation.accuracy;
    let mut about =
        format!("{} split, {} images, accuracy {percent:.2} %", evaluation.split, evaluation.images);
    if n < of_all {
        about += &format!("; the {n} of {of_all} classes with most mistakes");
    }
    svg.label("small", (16.0, 42.0), Anchor::Start, &about);
    svg.label(
        "small",
        (16.0, 57.0),
        Anchor::Start,
        "row: class of the image, column: what the model says; darker: a larger part of the row",
    );

    for (row, &label) in classes.iter().enumerate() {
        let y = top + row as f64 * cell;
        let report = &evaluation.per_class[label];
        let style = format!("font-size=\"{font:.1}\"");
        let name = shorten(&report.name, MAX_LABEL);
        svg.styled_label(&style, (room - 6.0, y + cell / 2.0 + font * 0.35), Anchor::End, &name);
        let x = room + row as f64 * cell + cell / 2.0 + font * 0.35;
        let below = top + side + 8.0;
        let turned = format!("{style} transform=\"rotate(-90 {x:.1} {below:.1})\"");
        svg.styled_label(&turned, (x, below), Anchor::End, &name);
        for (column, &predicted) in classes.iter().enumerate() {
            let count = evaluation.confusion[label][predicted];
            let corner = (room + column as f64 * cell, y);
            // Empty cells of large matrices are left to the background: a file of 10,000 cells loads slowly.
            if count == 0 && n > MAX_NUMBERED {
                continue;
            }
            let part = count as f64 / report.support.max(1) as f64;
            let said = &evaluation.per_class[predicted].name;
            let hover = format!("{} said to be {said}: {count} ({:.1} %)", report.name, 100.0 * part);
            let size = (cell - 1.0, cell - 1.0);
            if count == 0 {
                svg.rect("class=\"empty\"", corner, size, &hover);
                continue;
            }
            let colour = if label == predicted { RIGHT } else { WRONG };
            let opacity = tint(part);
            svg.rect(&format!("fill=\"{colour}\" fill-opacity=\"{opacity:.2}\""), corner, size, &hover);
            if n <= MAX_NUMBERED {
                let digits = count.to_string();
                let font = font.min((cell - 3.0) / (digits.len() as f64 * 0.6));
                let ink = if opacity > WHITE_FROM { "#fff" } else { "currentColor" };
                let at = (corner.0 + (cell - 1.0) / 2.0, y + cell / 2.0 + font * 0.35);
                svg.styled_label(
                    &format!("style=\"fill:{ink}\" font-size=\"{font:.1}\""),
                    at,
                    Anchor::Middle,
                    &digits,
                );
            }
        }
    }
    svg.finish()
}

/// All classes, or the ones with most mistakes of very many, in the order of the model.
fn worst_classes(evaluation: &Evaluation) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..evaluation.per_class.len()).collect();
    if classes.len() > MAX_DRAWN_CLASSES {
        let mistakes: Vec<u64> =
            classes.iter().map(|&c| evaluation.per_class[c].support - evaluation.confusion[c][c]).collect();
        classes.sort_by_key(|&c| (std::cmp::Reverse(mistakes[c]), c));
        classes.truncate(MAX_DRAWN_CLASSES);
        classes.sort_unstable();
    }
    classes
}

/// Opacity for a part in 0..=1: by the square root, so that one mistake in a hundred shows.
fn tint(part: f64) -> f64 {
    part.clamp(0.0, 1.0).sqrt().max(0.06)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Tally;
    use ocelli_testing::xml::elements;

    fn rows(n: u32, val: bool) -> Vec<EpochRow> {
        let row = |epoch: u32| {
            let t = f64::from(epoch);
            EpochRow {
                epoch,
                seconds: t,
                lr: 0.1,
                train_loss: 2.0 / t,
                train_accuracy: 1.0 - 0.5 / t,
                val_loss: val.then_some(2.5 / t),
                val_accuracy: val.then_some(1.0 - 0.6 / t),
            }
        };
        (1..=n).map(row).collect()
    }

    #[test]
    fn curves_are_well_formed_for_any_number_of_epochs() {
        for n in [0, 1, 2, 3, 10, 100, 5000] {
            for val in [false, true] {
                let text = curves("a <b> & \"c\"", &rows(n, val), (n > 0).then_some(n.div_ceil(2)));
                let names = elements(&text);
                let lines = 2 + if n == 0 { 0 } else { 2 + 2 * usize::from(val) };
                assert_eq!(names.iter().filter(|name| *name == "polyline").count(), lines);
                assert!(text.len() < 300_000, "{}", text.len());
            }
        }
        let mut odd = rows(3, true);
        odd[1].train_loss = f64::NAN;
        odd[2].val_loss = Some(f64::INFINITY);
        elements(&curves("x", &odd, Some(9)));
        let flat = vec![EpochRow { train_loss: 0.0, train_accuracy: 1.0, ..rows(1, false)[0] }; 3];
        elements(&curves("x", &flat, None));
    }

    #[test]
    fn matrices_are_well_formed_from_two_to_many_classes() {
        for n in [2usize, 3, 10, 30, 31, 100, 101, 400] {
            let mut tally = Tally::new(n).unwrap();
            for image in 0..3 * n {
                let said = if image % 5 == 0 { (image + 1) % n } else { image % n };
                let logits: Vec<f32> = (0..n).map(|c| f32::from(u8::from(c == said))).collect();
                tally.add(&logits, image % n);
            }
            let classes: Vec<String> = (0..n).map(|c| format!("<class> & 'é' number {c}")).collect();
            let text = confusion_matrix("x & y", &tally.report("test", &classes));
            let names = elements(&text);
            let cells = names.iter().filter(|name| *name == "rect").count();
            if n <= MAX_NUMBERED {
                assert_eq!(cells, n * n);
            } else {
                assert!(cells <= 3 * n, "{cells}");
            }
            assert!(text.len() < 400_000, "{n}: {}", text.len());
        }
    }
}
