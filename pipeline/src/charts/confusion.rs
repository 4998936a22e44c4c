//! `confusion_matrix.svg`.

use ocelli_common::svg::{Anchor, Svg, shorten};

use crate::metrics::Evaluation;

/// Classes beyond which a matrix is not drawn whole: a cell would be smaller than a pointer can hit.
const MAX_DRAWN_CLASSES: usize = 100;
/// Classes up to which cells hold numbers.
pub(super) const MAX_NUMBERED: usize = 30;
/// Characters of a class name on an axis.
const MAX_LABEL: usize = 18;

/// Right answers are blue, wrong ones vermilion: colour-blind people tell them apart, and tints of them go with light and
/// dark pages.
const RIGHT: &str = "#005a9c";
const WRONG: &str = "#d55e00";
/// Opacity above which white text reads better than the page's.
const WHITE_FROM: f64 = 0.75;

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
