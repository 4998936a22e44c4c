//! `average_precision.svg`: how well each label is ranked, as bars.

use ocelli_common::svg::{Anchor, Svg, shorten};

use crate::labels::{LabelEvaluation, LabelReport};

/// Labels beyond which the lowest ones are drawn alone.
const MOST: usize = 60;
const ROW: f64 = 18.0;
const WIDTH: f64 = 560.0;
/// Where the bars begin, and how long that of 1 is.
const LEFT: f64 = 190.0;
const LENGTH: f64 = 300.0;
const TOP: f64 = 64.0;
/// Characters of a label.
const MAX_LABEL: usize = 26;
const COLOUR: &str = "#005a9c";

/// One bar a label, lowest first; labels that no image has are left out.
pub(crate) fn average_precisions(name: &str, evaluation: &LabelEvaluation) -> String {
    let mut labels: Vec<(&LabelReport, f32)> = (evaluation.per_label.iter())
        .filter_map(|label| label.average_precision.map(|value| (label, value)))
        .collect();
    labels.sort_by(|a, b| a.1.total_cmp(&b.1));
    let all = labels.len();
    labels.truncate(MOST);
    let height = TOP + ROW * labels.len() as f64 + 16.0;
    let mut svg = Svg::new(WIDTH, height, &format!("Average precision of {name}"));
    svg.label("title", (16.0, 24.0), Anchor::Start, &shorten(name, 60));
    let mean = evaluation.mean_average_precision;
    let mut about = format!("{} split, {} images, mean {mean:.4}", evaluation.split, evaluation.images);
    if labels.len() < all {
        about += &format!("; the {} lowest of {all} labels", labels.len());
    }
    svg.label("small", (16.0, 42.0), Anchor::Start, &about);
    for (place, (label, value)) in labels.iter().enumerate() {
        let y = TOP + place as f64 * ROW;
        svg.label("small", (LEFT - 8.0, y + 11.0), Anchor::End, &shorten(&label.name, MAX_LABEL));
        let length = f64::from(*value) * LENGTH;
        let hover = format!("{}: {value:.4}, {} images", label.name, label.positives);
        svg.rect(&format!("fill=\"{COLOUR}\""), (LEFT, y), (length, ROW - 4.0), &hover);
        svg.label("small", (LEFT + length + 6.0, y + 11.0), Anchor::Start, &format!("{value:.3}"));
    }
    svg.finish()
}
