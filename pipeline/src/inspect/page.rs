//! An inspection as a page of HTML that stands alone.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ocelli_common::text::{count, thousands};

use super::report::{Bin, FileFound, Finding, Inspection, Lengths, Severity};
use crate::html::{Column, Html, bar, page, picture, pictures, section, table};

/// Files of a finding that are listed below its pictures, at most.
const LISTED: usize = 100;
/// Files that are listed without a click, at most.
const FEW: usize = 10;

impl Inspection {
    /// A page with everything that a reader wants to see: counts, sizes, and each finding with its pictures.
    pub fn page(&self) -> String {
        let body =
            self.findings_part().and(self.classes_part()).and(self.sizes_part()).and(self.reading_part());
        let about = format!(
            "{} of {} images can be read, in {}; {}, {}, {}",
            thousands(self.images as u64),
            thousands(self.files as u64),
            if self.classes.len() == 1 {
                "1 class".to_owned()
            } else {
                format!("{} classes", self.classes.len())
            },
            count(self.problems, "problem"),
            count(self.warnings, "warning"),
            count(self.remarks, "note"),
        );
        page(&format!("Inspection of {}", self.name), &about, &body)
    }

    fn findings_part(&self) -> Html {
        let none = || Html::of("p", "quiet", "Nothing was found that is worth mentioning.");
        let cards: Html = self.findings.iter().map(card).collect();
        let search = Html::of("p", "quiet", &capital(&self.label_search.note));
        section("Findings", if self.findings.is_empty() { none() } else { cards }.and(search))
    }

    fn classes_part(&self) -> Html {
        let most = self.classes.iter().map(|class| class.images).max().unwrap_or(0).max(1);
        let number = |n: usize| Html::text(&thousands(n as u64));
        let row = |name: Html, images: usize, splits: [usize; 4], bar: Html| {
            let mut cells = vec![name, number(images), bar];
            cells.extend(splits.map(number));
            cells
        };
        let rows = self.classes.iter().map(|class| {
            let part = class.images as f64 / most as f64;
            row(Html::text(&class.name), class.images, class.splits.in_order(), bar(part))
        });
        let all = row(Html::of("b", "", "all"), self.images, self.splits.in_order(), Html::new());
        let columns = [
            ("class", Column::Text),
            ("images", Column::Number),
            ("", Column::Text),
            ("train", Column::Number),
            ("val", Column::Number),
            ("test", Column::Number),
            ("undivided", Column::Number),
        ];
        section("Classes", table(&columns, rows.chain([all])))
    }

    fn sizes_part(&self) -> Html {
        let range = |what: &str, lengths: &Lengths| {
            let Lengths { min, median, max, .. } = lengths;
            let text = format!("{what} from {min} to {max} pixels, median {median}");
            Html::of("h3", "", &text).and(histogram(&lengths.histogram))
        };
        let kinds = |counts: &BTreeMap<String, usize>, noun: &str| {
            let there = counts.iter().filter(|(_, n)| **n > 0);
            there.map(|(name, n)| format!("{name}{noun}: {}", thousands(*n as u64))).collect::<Vec<_>>()
        };
        let mut facts = kinds(&self.formats, "");
        facts.extend(kinds(&self.channels, ""));
        facts.extend(kinds(&self.bits, " bits"));
        facts.push(format!("turned by EXIF or XMP: {}", thousands(self.rotated as u64)));
        let facts = Html::of("p", "", &facts.join(", "));
        section("Images", facts.and(range("Width", &self.width)).and(range("Height", &self.height)))
    }

    fn reading_part(&self) -> Html {
        let kind = Html::of("p", "", &format!("Layout: {}", self.kind));
        let notes: Html = self.notes.iter().map(|note| Html::of("li", "", note)).collect();
        section("How the data was read", kind.and(Html::element("ul", "", notes)))
    }
}

fn histogram(bins: &[Bin]) -> Html {
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or(0).max(1);
    let rows = bins.iter().map(|bin| {
        let range =
            if bin.from == bin.to { bin.from.to_string() } else { format!("{} to {}", bin.from, bin.to) };
        let part = bin.images as f64 / most as f64;
        vec![Html::text(&range), Html::text(&thousands(bin.images as u64)), bar(part)]
    });
    table(&[("pixels", Column::Number), ("images", Column::Number), ("", Column::Text)], rows)
}

fn card(finding: &Finding) -> Html {
    let (class, word) = match finding.severity {
        Severity::Problem => ("card problem", "problem"),
        Severity::Warning => ("card warning", "warning"),
        Severity::Note => ("card", "note"),
    };
    let heading = Html::of("span", "word", word).and(Html::text(&finding.text));
    let mut inner = Html::element("h3", "", heading);
    inner.push(Html::of("p", "quiet", &format!("What to do: {}.", finding.advice)));
    let (pictured, listed): (Vec<&FileFound>, Vec<&FileFound>) =
        finding.files.iter().partition(|file| file.thumbnail.is_some());
    let pictured_count = pictured.len();
    if pictured_count > 0 {
        inner.push(pictures(pictured.into_iter().map(pictured_file)));
    }
    if !listed.is_empty() {
        let all: Html = listed.iter().take(LISTED).map(|file| listed_file(file)).collect();
        let mut list = Html::element("ul", "", all);
        let more =
            finding.files_total.saturating_sub(finding.files.len()) + listed.len().saturating_sub(LISTED);
        if more > 0 {
            let text = format!("and {} more; the JSON names all", thousands(more as u64));
            list.push(Html::of("p", "quiet", &text));
        }
        // A few are shown at once; many wait for a click.
        let few = pictured_count == 0 && listed.len() <= FEW;
        inner.push(if few {
            list
        } else {
            folded(&format!("{} by name", count(listed.len(), "file")), list)
        });
    }
    Html::element("div", class, inner)
}

/// Something behind a heading that opens it.
fn folded(heading: &str, inner: Html) -> Html {
    Html::element("details", "", Html::of("summary", "", heading).and(inner))
}

fn pictured_file(file: &FileFound) -> (Html, Vec<Html>) {
    let png = file.thumbnail.as_ref().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    let lines = [Some(file.name.clone()), Some(labels(file)), file.detail.clone()];
    (picture(&png, &file.name), lines.iter().flatten().map(|line| Html::text(line)).collect())
}

fn listed_file(file: &FileFound) -> Html {
    let detail = file.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    Html::element("li", "", Html::text(&file.name).and(Html::of("span", "quiet", &detail)))
}

/// Labels, split and group in a line.
fn labels(file: &FileFound) -> String {
    let mut parts = vec![file.classes.join(", ")];
    parts.extend(file.split.clone());
    parts.extend(file.group.map(|group| format!("group {group}")));
    parts.join(" \u{b7} ")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
