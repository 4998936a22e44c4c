//! The parts of a report that show mistakes: the confusion matrix, whose cells lead to their pictures, and the worst ones.

use std::collections::BTreeMap;

use crate::charts;
use crate::html::{Html, picture, pictures, section};
use crate::metrics::{Evaluation, Mistake};

/// Classes up to which the matrix is a table whose cells can be followed; beyond, it is drawn, and the pairs are listed.
const MAX_TABLE: usize = 40;
/// Shades of a cell.
const SHADES: f64 = 9.0;

/// Where the pictures of a cell are on the page.
fn place(label: usize, predicted: usize) -> String {
    format!("mistakes-{label}-{predicted}")
}

/// The mistakes by class and most likely class.
fn by_cell<'a>(
    evaluation: &Evaluation,
    mistakes: &'a [Mistake],
) -> BTreeMap<(usize, usize), Vec<&'a Mistake>> {
    let index: BTreeMap<&str, usize> =
        evaluation.per_class.iter().enumerate().map(|(at, class)| (class.name.as_str(), at)).collect();
    let mut cells: BTreeMap<(usize, usize), Vec<&Mistake>> = BTreeMap::new();
    for mistake in mistakes {
        let key = (index.get(mistake.row.label.as_str()), index.get(mistake.row.predicted.as_str()));
        if let (Some(&label), Some(&predicted)) = key {
            cells.entry((label, predicted)).or_default().push(mistake);
        }
    }
    cells
}

/// The confusion matrix; cells with pictures lead to them.
pub(super) fn matrix(name: &str, evaluation: &Evaluation, mistakes: &[Mistake]) -> Html {
    let classes = &evaluation.per_class;
    if classes.len() > MAX_TABLE {
        return section("Confusion matrix", Html::drawing(&charts::confusion_matrix(name, evaluation)));
    }
    let cells = by_cell(evaluation, mistakes);
    let head = classes.iter().map(|class| Html::element("th", "turned", Html::of("span", "", &class.name)));
    let head = Html::element("tr", "", std::iter::once(Html::of("th", "", "")).chain(head).collect());
    let row = |(label, class): (usize, &crate::metrics::ClassReport)| {
        let cell = |(predicted, &count): (usize, &u64)| {
            let part = count as f64 / class.support.max(1) as f64;
            let shade = (part * SHADES).ceil() as usize;
            let text = if count == 0 { String::new() } else { count.to_string() };
            let inner = match cells.contains_key(&(label, predicted)) {
                true => Html::link(&place(label, predicted), &text),
                false => Html::text(&text),
            };
            Html::shaded_cell(shade, label == predicted, inner)
        };
        let cells = evaluation.confusion[label].iter().enumerate().map(cell);
        Html::element("tr", "", std::iter::once(Html::of("th", "", &class.name)).chain(cells).collect())
    };
    let body = classes.iter().enumerate().map(row).collect();
    let drawn = Html::element(
        "table",
        "matrix",
        Html::element("thead", "", head).and(Html::element("tbody", "", body)),
    );
    let about = "Row: class of the image; column: what the model says; darker: a larger part of the row. Numbers of mistakes lead \
                 to their pictures.";
    section("Confusion matrix", Html::of("p", "quiet", about).and(Html::element("div", "scroll", drawn)))
}

/// The mistakes with the highest loss, each with what speaks for the wrong answer.
pub(super) fn worst(evaluation: &Evaluation, maps: &[Vec<u8>]) -> Html {
    if evaluation.worst.is_empty() {
        return section("Worst mistakes", Html::of("p", "", "There are no mistakes."));
    }
    let shown = evaluation.worst.iter().enumerate().map(|(at, mistake)| {
        let row = &mistake.row;
        let said = format!("{} -> {} {:.0} %", row.label, row.predicted, 100.0 * row.probability);
        let map = maps.get(at).map(|png| picture(png, &format!("what speaks for {}", row.predicted)));
        let both = picture(&mistake.png, &row.name).and(map.unwrap_or_default());
        (both, vec![Html::text(&said), Html::text(&row.name)])
    });
    let about = match maps.is_empty() {
        true => Html::new(),
        false => Html::of(
            "p",
            "quiet",
            "Below each image, where the network found what it took for the wrong class (Grad-CAM).",
        ),
    };
    section("Worst mistakes", about.and(pictures(shown)))
}

/// The pictures behind the cells of the matrix, those of the most frequent mistakes first.
pub(super) fn cells(evaluation: &Evaluation, mistakes: &[Mistake]) -> Html {
    let classes = &evaluation.per_class;
    let cells = by_cell(evaluation, mistakes);
    let mut order: Vec<_> = cells.iter().collect();
    order.sort_by_key(|((label, predicted), _)| std::cmp::Reverse(evaluation.confusion[*label][*predicted]));
    let part = |(&(label, predicted), all): (&(usize, usize), &Vec<&Mistake>)| {
        let count = evaluation.confusion[label][predicted];
        let heading = format!("{count} x {} taken for {}", classes[label].name, classes[predicted].name);
        let shown = all.iter().map(|mistake| {
            let said = format!("{:.0} %", 100.0 * mistake.row.probability);
            (picture(&mistake.png, &mistake.row.name), vec![Html::text(&said), Html::text(&mistake.row.name)])
        });
        Html::placed(&place(label, predicted), Html::of("h3", "", &heading).and(pictures(shown)))
    };
    if order.is_empty() {
        return Html::new();
    }
    section("Mistakes by classes", order.into_iter().map(part).collect())
}
