//! From answers to a verdict.

use ocelli_datasets::names::same_class;
use ocelli_engine::model_file::ModelFile;

use super::ask::{Answer, Answers};
use super::rules::{Candidate, ClassVerdict, Compared, Gate, GateMode, Rules, Verdict};
use crate::data::list;
use crate::evaluate::class_map;
use crate::mcnemar::{holm, p_value};

/// The chance to keep a candidate that lost nothing, for each set of images.
const SIGNIFICANT: f64 = 0.05;

/// Images of a class that the serving model must have right before half of them can be lost.
const LEAST_HAD: usize = 2;

/// What both models got right of some images.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    images: usize,
    candidate: usize,
    /// Of the images of classes that the serving model knows:
    known: usize,
    known_candidate: usize,
    serving: usize,
    lost: usize,
    won: usize,
}

impl Counts {
    fn add(&mut self, answer: &Answer) {
        self.images += 1;
        self.candidate += usize::from(answer.candidate);
        let Some(serving) = answer.serving else { return };
        self.known += 1;
        self.known_candidate += usize::from(answer.candidate);
        self.serving += usize::from(serving);
        self.lost += usize::from(serving && !answer.candidate);
        self.won += usize::from(!serving && answer.candidate);
    }

    fn of<'a>(answers: impl Iterator<Item = &'a Answer>) -> Counts {
        let mut counts = Counts::default();
        answers.for_each(|answer| counts.add(answer));
        counts
    }
}

/// A class of either model, or of the images.
struct Row {
    name: String,
    in_candidate: bool,
    serves: bool,
}

/// Part of the images.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    HeldOut,
    Reference,
}

impl Part {
    fn has(self, answer: &Answer) -> bool {
        match self {
            Part::All => true,
            Part::HeldOut => answer.held_out,
            Part::Reference => answer.reference,
        }
    }

    fn said(self) -> &'static str {
        match self {
            Part::All => "",
            Part::HeldOut => " held out from its data set",
            Part::Reference => " that the serving version was judged on",
        }
    }
}

/// All that a verdict is made of.
struct Case<'a> {
    gate: &'a Gate,
    rules: &'a Rules,
    answers: &'a [Answer],
    rows: Vec<Row>,
    /// The row of each answer.
    row_of: Vec<usize>,
    /// All images, and the reference set where it is a smaller one.
    tested: Vec<Part>,
    all: Counts,
}

pub(super) fn decide(
    gate: &Gate,
    candidate: &Candidate<'_>,
    serving: Option<(&str, &ModelFile)>,
    answers: &Answers,
    rules: &Rules,
) -> Verdict {
    let (rows, row_of_class) = rows(candidate.file, serving.map(|(_, file)| file), &answers.classes);
    let row_of = answers.answers.iter().map(|answer| row_of_class[answer.class]).collect();
    let reference_images = answers.answers.iter().filter(|answer| answer.reference).count();
    let mut tested = vec![Part::All];
    if (1..answers.answers.len()).contains(&reference_images) {
        tested.push(Part::Reference);
    }
    let all = Counts::of(answers.answers.iter());
    let case = Case { gate, rules, answers: &answers.answers, rows, row_of, tested, all };

    let mut reasons: Vec<String> = rules.manual.iter().cloned().collect();
    if gate.mode == GateMode::Never {
        reasons.push("the gate leaves it to a person to promote it".to_owned());
    }
    if serving.is_some() {
        reasons.extend(case.missing());
        reasons.extend(case.too_few());
        reasons.extend(case.less_accurate());
    }
    let inaccurate = case.inaccurate();
    reasons.extend(inaccurate.clone());
    if serving.is_some() {
        reasons.extend(case.lost_classes());
    }
    let promote = match gate.mode {
        GateMode::NoWorse => reasons.is_empty(),
        GateMode::Always => rules.manual.is_none() && inaccurate.is_none(),
        GateMode::Never => false,
    };
    let reason = match (promote, gate.mode) {
        (true, GateMode::Always) => "the gate lets every candidate pass".to_owned(),
        (true, _) if serving.is_none() => "there is nothing to compare it with".to_owned(),
        (true, _) => case.no_worse(),
        // In mode always the others do not count.
        (false, GateMode::Always) => rules.manual.clone().or(inaccurate).unwrap_or_default(),
        (false, _) => reasons.first().cloned().unwrap_or_default(),
    };
    let evaluated = match candidate.evaluation.split.as_str() {
        "train" => 0.0,
        _ => candidate.evaluation.accuracy,
    };
    Verdict {
        promote,
        reason,
        split: "held out".to_owned(),
        images: all.images,
        candidate_accuracy: part(all.candidate, all.images).unwrap_or(evaluated),
        serving_accuracy: serving.and(part(all.serving, all.images)),
        serving: serving.map(|(version, _)| version.to_owned()),
        reasons,
        rule: case.rule(serving.is_some()),
        compared: if serving.is_some() { case.compared() } else { Vec::new() },
        classes: case.classes(),
        reference_images,
        unreadable: answers.unreadable,
    }
}

/// The rows of the verdict, and the row of each class of the images. Names are matched as everywhere: as they are
/// spelled, else after NFC.
fn rows(candidate: &ModelFile, serving: Option<&ModelFile>, asked: &[String]) -> (Vec<Row>, Vec<usize>) {
    let known = serving.map_or(&[][..], |file| &file.meta.classes);
    let own = &candidate.meta.classes;
    let mut names: Vec<String> = own.clone();
    let missing = known.iter().zip(class_map(known, own)).filter(|(_, own)| own.is_none());
    names.extend(missing.map(|(name, _)| name.clone()));
    let mut row_of = Vec::with_capacity(asked.len());
    for (name, found) in asked.iter().zip(class_map(asked, own)) {
        let found = found.or_else(|| names.iter().position(|other| same_class(other, name)));
        row_of.push(found.unwrap_or_else(|| {
            names.push(name.clone());
            names.len() - 1
        }));
    }
    let serves = class_map(&names, known);
    let row = |(index, (name, serves)): (usize, (String, Option<usize>))| Row {
        name,
        in_candidate: index < own.len(),
        serves: serves.is_some(),
    };
    (names.into_iter().zip(serves).enumerate().map(row).collect(), row_of)
}

fn part(count: usize, of: usize) -> Option<f32> {
    (of > 0).then(|| (count as f64 / of as f64) as f32)
}

fn percent(count: usize, of: usize) -> String {
    format!("{:.2} %", 100.0 * count as f64 / of.max(1) as f64)
}

impl Case<'_> {
    fn counts(&self, part: Part) -> Counts {
        Counts::of(self.answers.iter().filter(|answer| part.has(answer)))
    }

    fn by_class(&self, part: Part) -> Vec<Counts> {
        let mut counts = vec![Counts::default(); self.rows.len()];
        for (answer, &row) in self.answers.iter().zip(&self.row_of) {
            if part.has(answer) {
                counts[row].add(answer);
            }
        }
        counts
    }

    /// Classes that serve and that the candidate does not know or was not tried on.
    fn missing(&self) -> Vec<String> {
        let held_out = self.by_class(Part::HeldOut);
        let names = |wanted: &dyn Fn(&Row, &Counts) -> bool| {
            let rows =
                self.rows.iter().zip(&held_out).filter(|(row, counts)| row.serves && wanted(row, counts));
            let names: Vec<&str> = rows.map(|(row, _)| row.name.as_str()).collect();
            (!names.is_empty()).then(|| list(names.into_iter()))
        };
        let unknown = names(&|row, _| !row.in_candidate)
            .map(|names| format!("classes that serve are missing from the candidate: {names}"));
        let untried = names(&|row, counts| row.in_candidate && counts.images == 0).map(|names| {
            format!("classes that serve have no held-out image in the candidate's data set: {names}")
        });
        unknown.into_iter().chain(untried).collect()
    }

    fn too_few(&self) -> Vec<String> {
        let Rules { min_per_class, min_images, .. } = *self.rules;
        let mut reasons = Vec::new();
        let rows = self.rows.iter().zip(self.by_class(Part::All));
        let few = rows.filter(|(row, counts)| row.in_candidate && counts.images < min_per_class);
        let few: Vec<String> = few.map(|(row, counts)| format!("{} ({})", row.name, counts.images)).collect();
        if !few.is_empty() {
            let names = list(few.iter().map(String::as_str));
            reasons.push(format!("classes with fewer than {min_per_class} held-out images: {names}"));
        }
        if self.all.images < min_images {
            reasons.push(format!("{} held-out images in all, fewer than {min_images}", self.all.images));
        }
        reasons
    }

    /// Where the candidate's accuracy is lower than may be.
    fn less_accurate(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for &part in &self.tested {
            let counts = self.counts(part);
            let fall = counts.serving as f64 - counts.known_candidate as f64;
            // 0.02 has no binary form: one image of 50 is within it.
            if fall > f64::from(self.gate.max_drop) * counts.known as f64 + 1e-4 {
                let which = match part {
                    Part::Reference => "images that the serving version was judged on",
                    _ => "held-out images of classes that serve",
                };
                let Counts { known, known_candidate, serving, .. } = counts;
                let (own, other) = (percent(known_candidate, known), percent(serving, known));
                reasons.push(format!("worse: accuracy {own} against {other} on {known} {which}"));
            }
        }
        reasons
    }

    /// Whether the accuracy on all images is below the one that is asked for.
    fn inaccurate(&self) -> Option<String> {
        let Counts { candidate, images, .. } = self.all;
        let least = self.gate.min_accuracy;
        let asked = format!("{:.2} % are asked for", least * 100.0);
        match part(candidate, images) {
            None if least > 0.0 => Some(format!("no held-out images to measure its accuracy on, {asked}")),
            Some(accuracy) if accuracy < least => {
                Some(format!("accuracy {} on {images} images, {asked}", percent(candidate, images)))
            }
            _ => None,
        }
    }

    /// Classes that serve and whose recall fell; one reason a class.
    fn lost_classes(&self) -> Vec<String> {
        let mut found: Vec<Option<String>> = vec![None; self.rows.len()];
        for part in [Part::All, Part::HeldOut, Part::Reference] {
            let counts = self.by_class(part);
            let tested: Vec<usize> =
                (0..counts.len()).filter(|&row| self.rows[row].serves && counts[row].known > 0).collect();
            let p: Vec<f64> = tested.iter().map(|&row| p_value(counts[row].lost, counts[row].won)).collect();
            for (&row, p) in tested.iter().zip(holm(&p)) {
                let Counts { known, known_candidate, serving, .. } = counts[row];
                let half = serving >= LEAST_HAD && 2 * known_candidate < serving;
                // What is held out alone is tested with all: a test more would only make the others weaker.
                let significant = self.tested.contains(&part) && p <= SIGNIFICANT;
                if !half && !significant {
                    continue;
                }
                let chance = match significant {
                    true => format!("chance alone does that with p = {p:.2e} after Holm's correction"),
                    false => "less than half of it is left".to_owned(),
                };
                found[row].get_or_insert_with(|| {
                    format!(
                        "class {:?} got worse: recall {} against {} on {known} images{}; {chance}",
                        self.rows[row].name,
                        percent(known_candidate, known),
                        percent(serving, known),
                        part.said(),
                    )
                });
            }
        }
        found.into_iter().flatten().collect()
    }

    fn no_worse(&self) -> String {
        let Counts { known, known_candidate, serving, .. } = self.all;
        let (own, other) = (percent(known_candidate, known), percent(serving, known));
        format!("no worse: {own} against {other} on {known} held-out images, and no class got worse")
    }

    fn compared(&self) -> Vec<Compared> {
        let parts = self.tested.iter().map(|&part| (part, self.counts(part)));
        let row = |(set, counts): (Part, Counts)| {
            Some(Compared {
                set: if set == Part::All { "all" } else { "reference" }.to_owned(),
                images: counts.known,
                candidate_accuracy: part(counts.known_candidate, counts.known)?,
                serving_accuracy: part(counts.serving, counts.known)?,
            })
        };
        parts.filter_map(row).collect()
    }

    fn classes(&self) -> Vec<ClassVerdict> {
        let rows = self.rows.iter().zip(self.by_class(Part::All));
        let verdict = |(row, counts): (&Row, Counts)| ClassVerdict {
            name: row.name.clone(),
            images: counts.images,
            candidate_recall: part(counts.candidate, counts.images).filter(|_| row.in_candidate),
            serving_recall: part(counts.serving, counts.known),
            lost: counts.lost,
            won: counts.won,
            p_value: (counts.known > 0).then(|| p_value(counts.lost, counts.won)),
        };
        rows.map(verdict).collect()
    }

    fn rule(&self, compared: bool) -> String {
        let Rules { min_per_class, min_images, ref manual } = *self.rules;
        let Gate { mode, max_drop, min_accuracy } = *self.gate;
        let (drop, least) = (max_drop * 100.0, min_accuracy * 100.0);
        match mode {
            _ if manual.is_some() => "only a person may promote this candidate".to_owned(),
            GateMode::Never => "only a person promotes a candidate".to_owned(),
            GateMode::Always => {
                format!("every candidate with an accuracy of at least {least:.2} % is promoted")
            }
            GateMode::NoWorse if !compared => {
                format!("nothing serves: a candidate with an accuracy of at least {least:.2} % is promoted")
            }
            GateMode::NoWorse => format!(
                "promoted if every class that serves is known to the candidate and has held-out images, each class has at least {min_per_class} images and all have {min_images}, accuracy is at most {drop:.2} points below that of the serving version, on all images and on its reference images, and at least {least:.2} %, and no class that serves keeps less than half of its recall or loses more than chance explains (exact McNemar test, one-sided, {:.0} %, Holm over the classes)",
                SIGNIFICANT * 100.0
            ),
        }
    }
}
