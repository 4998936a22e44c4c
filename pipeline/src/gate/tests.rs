//! What must never be promoted, and what must be.
//!
//! The models are made by hand: an image has one row of pixels, of which each model looks at its own eight, and the
//! brightest of them is its answer. So an image says what either model takes it for.

use std::fs;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat};
use ocelli_datasets::{Fit, Preprocessing};
use ocelli_engine::graph::{Dense, Graph, Op};
use ocelli_engine::model_file::ModelMeta;
use ocelli_engine::{Model, Shape};
use tempfile::TempDir;

use super::*;
use crate::built_in::shipped_model;
use crate::data::Data;
use crate::metrics::Tally;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Pixels that one model looks at: the most classes here.
const EYES: usize = 8;
/// The pixels of both, and three that tell images apart.
const WIDTH: usize = 2 * EYES + 3;

/// A model that looks at the first eight pixels, or at the second ones.
fn model(classes: &[&str], first: usize) -> ModelFile {
    let mut graph = Graph::new(Shape::new(1, WIDTH, 1));
    graph.then("flat", Op::Flatten);
    graph.then("fc", Op::Dense(Dense { units: classes.len() as u32, bias: false }));
    let mut model = Model::zeros(graph).unwrap();
    let range = model.layout().entries()[0].range();
    let weights = &mut model.params_mut()[range];
    (0..classes.len()).for_each(|class| weights[(first + class) * classes.len() + class] = 1.0);
    let pre = Preprocessing::new(WIDTH as u32, 1, 1, Fit::Stretch);
    let classes = classes.iter().map(|&name| name.to_owned()).collect();
    let meta =
        ModelMeta { classes, preprocessing: pre.clone(), metrics: None, ..shipped_model().unwrap().meta };
    ModelFile::new(model, meta)
}

/// A candidate, a serving model, and the images that both are asked about.
struct Trial {
    dir: TempDir,
    candidate: ModelFile,
    serving: ModelFile,
    questions: Vec<Question>,
}

use QuestionSet::{HeldOut, Reference};

impl Trial {
    fn new(candidate: &[&str], serving: &[&str]) -> Trial {
        Trial {
            dir: tempfile::tempdir().unwrap(),
            candidate: model(candidate, 0),
            serving: model(serving, EYES),
            questions: Vec::new(),
        }
    }

    /// `n` images of a class, which the models take for their classes `answers`.
    fn add(&mut self, set: QuestionSet, class: &str, answers: (usize, usize), n: usize) -> &mut Trial {
        for _ in 0..n {
            let id = self.questions.len();
            let mut pixels = vec![0; WIDTH];
            (pixels[answers.0], pixels[EYES + answers.1]) = (255, 255);
            for (slot, byte) in pixels[2 * EYES..].iter_mut().zip(id.to_le_bytes()) {
                *slot = byte;
            }
            let path = self.dir.path().join(format!("{id}.png"));
            let image = GrayImage::from_raw(WIDTH as u32, 1, pixels).unwrap();
            DynamicImage::ImageLuma8(image).save_with_format(&path, ImageFormat::Png).unwrap();
            self.questions.push(Question { path, class: class.to_owned(), set });
        }
        self
    }

    /// Both models are right about `n` images of each class.
    fn easy(&mut self, set: QuestionSet, n: usize) -> &mut Trial {
        for class in self.candidate.meta.classes.clone() {
            let at = |file: &ModelFile| file.meta.classes.iter().position(|name| *name == class).unwrap_or(0);
            let answers = (at(&self.candidate), at(&self.serving));
            self.add(set, &class, answers, n);
        }
        self
    }

    fn judge_by(&self, gate: &Gate, rules: &Rules) -> Verdict {
        let evaluation = Tally::new(2, 1.0).unwrap().report("test", &["a".to_owned(), "b".to_owned()]);
        let candidate = Candidate { file: &self.candidate, evaluation: &evaluation };
        let how = (Compute::on(2), &NEVER);
        let verdict =
            gate.judge(&candidate, Some(("old", &self.serving)), &self.questions, rules, how).unwrap();
        // What is written down is read again, but for the last bit of a p-value.
        let text = serde_json::to_string(&verdict).unwrap();
        let mut read: Verdict = serde_json::from_str(&text).unwrap();
        for (read, class) in read.classes.iter_mut().zip(&verdict.classes) {
            let near = |(a, b): (f64, f64)| (a - b).abs() <= 1e-15;
            assert!(read.p_value.zip(class.p_value).is_none_or(near));
            read.p_value = class.p_value;
        }
        assert_eq!(read, verdict);
        assert!(!verdict.rule.is_empty() && !verdict.reason.is_empty(), "{verdict:?}");
        verdict
    }

    fn judge(&self) -> Verdict {
        self.judge_by(&Gate::default(), &Rules::default())
    }

    /// Kept, and every part of `said` stands in one of the reasons.
    #[track_caller]
    fn kept(&self, said: &[&str]) -> Verdict {
        let verdict = self.judge();
        assert!(!verdict.promote, "{verdict:#?}");
        assert_eq!(verdict.reason, verdict.reasons[0]);
        for part in said {
            assert!(verdict.reasons.iter().any(|reason| reason.contains(part)), "{part}: {verdict:#?}");
        }
        verdict
    }
}

#[test]
fn an_equal_or_better_candidate_is_promoted() {
    let mut trial = Trial::new(&["a", "b", "c"], &["a", "b", "c"]);
    trial.easy(HeldOut, 10).add(HeldOut, "a", (1, 1), 3);
    let equal = trial.judge();
    assert!(equal.promote && equal.reasons.is_empty(), "{equal:#?}");
    assert_eq!((equal.split.as_str(), equal.images, equal.serving.as_deref()), ("held out", 33, Some("old")));
    assert_eq!(equal.serving_accuracy, Some(equal.candidate_accuracy));
    trial.add(HeldOut, "b", (1, 0), 4).easy(Reference, 5);
    let better = trial.judge();
    assert!(
        better.promote && better.reason.contains("no worse: 94.23 % against 86.54 % on 52"),
        "{better:#?}"
    );
    assert_eq!((better.reference_images, better.compared.len()), (15, 2));
    let b = &better.classes[1];
    assert_eq!((b.name.as_str(), b.images, b.lost, b.won, b.p_value), ("b", 19, 0, 4, Some(1.0)));
    // A class that serves nowhere yet is no hindrance, and a loss that chance explains is none.
    let mut grown = Trial::new(&["new", "a", "b"], &["a", "b"]);
    grown.easy(HeldOut, 15).add(HeldOut, "a", (1, 1), 3).add(HeldOut, "a", (2, 0), 2);
    grown.add(HeldOut, "a", (1, 1), 3).add(HeldOut, "b", (2, 0), 2);
    let verdict = grown.judge();
    assert!(verdict.promote, "{verdict:#?}");
    assert_eq!((verdict.classes[1].lost, verdict.classes[0].serving_recall), (2, None));
}

#[test]
fn two_images_promote_nothing_and_neither_do_their_copies() {
    let mut trial = Trial::new(&["a", "b"], &["a", "b"]);
    trial.add(HeldOut, "a", (0, 1), 1).add(HeldOut, "b", (1, 0), 1);
    let said = ["fewer than 5 held-out images: a (1), b (1)", "2 held-out images in all, fewer than 30"];
    trial.kept(&said);
    // The same two under other names, and as the reference set.
    for copy in 0..60 {
        let mut question = trial.questions[copy % 2].clone();
        let path = trial.dir.path().join(format!("copy-{copy}.png"));
        fs::copy(&question.path, &path).unwrap();
        question.path = path;
        question.set = if copy % 3 == 0 { Reference } else { HeldOut };
        trial.questions.push(question);
    }
    assert_eq!(trial.kept(&said).images, 2);
    let none = Trial::new(&["a", "b"], &["a", "b"]);
    none.kept(&["have no held-out image", "0 held-out images in all"]);
}

#[test]
fn every_number_of_images_below_the_least_keeps_the_candidate() {
    for (a, b) in [(4, 40), (40, 4), (0, 40), (14, 15), (5, 24)] {
        let mut trial = Trial::new(&["a", "b"], &["a", "b"]);
        trial.add(HeldOut, "a", (0, 0), a).add(HeldOut, "b", (1, 1), b);
        trial.kept(&["fewer than"]);
    }
    for (a, b) in [(5, 25), (15, 15)] {
        let mut trial = Trial::new(&["a", "b"], &["a", "b"]);
        trial.add(HeldOut, "a", (0, 0), a).add(HeldOut, "b", (1, 1), b);
        assert!(trial.judge().promote);
    }
}

#[test]
fn a_missing_or_renamed_class_keeps_the_candidate() {
    // Right about all that it knows, where the serving model is wrong half of the time.
    let mut missing = Trial::new(&["a", "b"], &["a", "b", "c"]);
    missing.easy(HeldOut, 30).add(HeldOut, "a", (0, 1), 30);
    let verdict = missing.kept(&["missing from the candidate: c"]);
    assert_eq!(verdict.classes[2].candidate_recall, None);
    // Its images in the reference set are those that it gets wrong.
    missing.add(Reference, "c", (0, 2), 20);
    missing.kept(&["missing from the candidate: c", "class \"c\" got worse", "worse: accuracy"]);

    let mut renamed = Trial::new(&["a", "bird"], &["a", "b"]);
    renamed.easy(HeldOut, 40);
    renamed.kept(&["missing from the candidate: b"]);
    let mut other_case = Trial::new(&["a", "B"], &["a", "b"]);
    other_case.easy(HeldOut, 40);
    other_case.kept(&["missing from the candidate: b"]);
    // The class is known, but nobody looked.
    let mut untried = Trial::new(&["a", "b", "c"], &["a", "b", "c"]);
    untried.add(HeldOut, "a", (0, 0), 40).add(HeldOut, "b", (1, 1), 40);
    untried.kept(&["no held-out image in the candidate's data set: c", "5 held-out images: c (0)"]);
    untried.add(Reference, "c", (2, 2), 40);
    untried.kept(&["no held-out image in the candidate's data set: c"]);
    // Two names changed places.
    let mut swapped = Trial::new(&["b", "a"], &["a", "b"]);
    swapped.add(HeldOut, "a", (0, 0), 20).add(HeldOut, "b", (1, 1), 20);
    swapped.kept(&["class \"a\" got worse: recall 0.00 % against 100.00 %", "class \"b\" got worse"]);
}

#[test]
fn one_name_in_two_spellings_is_one_class() {
    let (composed, apart) = ("caf\u{e9}", "cafe\u{301}");
    for (own, other, asked) in
        [(composed, apart, composed), (apart, composed, composed), (apart, apart, composed)]
    {
        let mut trial = Trial::new(&[own, "b"], &["b", other]);
        trial.add(HeldOut, asked, (0, 1), 20).add(HeldOut, "b", (1, 0), 20);
        let verdict = trial.judge();
        assert!(verdict.promote, "{verdict:#?}");
        assert_eq!(verdict.classes.len(), 2);
        // Copies of an image under both spellings are copies.
        let mut again = trial.questions[0].clone();
        again.class = if asked == own { other } else { own }.to_owned();
        trial.questions.push(again);
        assert_eq!(trial.judge().images, 40);
    }
}

#[test]
fn a_class_is_not_drowned_in_the_images_of_another() {
    let mut trial = Trial::new(&["much", "little", "some"], &["much", "little", "some"]);
    trial.add(HeldOut, "much", (0, 0), 700).add(HeldOut, "much", (0, 1), 60);
    trial.add(HeldOut, "some", (2, 2), 40);
    trial.add(HeldOut, "little", (1, 1), 11).add(HeldOut, "little", (0, 1), 9);
    let verdict =
        trial.kept(&["class \"little\" got worse: recall 55.00 % against 100.00 % on 20 images; chance"]);
    assert!(verdict.candidate_accuracy > verdict.serving_accuracy.unwrap() && verdict.reasons.len() == 1);
    let little = &verdict.classes[1];
    assert_eq!((little.lost, little.won, little.images), (9, 0, 20));
    assert!((little.p_value.unwrap() - 1.0 / 512.0).abs() < 1e-12);
}

#[test]
fn a_class_of_five_images_is_not_lost() {
    // The test alone sees nothing: 1/32, three times.
    for left in 0..=2 {
        let mut trial = Trial::new(&["a", "b", "c"], &["a", "b", "c"]);
        trial.easy(HeldOut, 40).questions.retain(|question| question.class != "c");
        trial.add(HeldOut, "a", (0, 1), 40);
        trial.add(HeldOut, "c", (2, 2), left).add(HeldOut, "c", (0, 2), 5 - left);
        let verdict = trial.kept(&["class \"c\" got worse", "less than half of it is left"]);
        assert!(verdict.classes[2].p_value.unwrap() * 3.0 > 0.05);
        assert_eq!(verdict.reasons.len(), 1);
    }
    let mut kept_half = Trial::new(&["a", "b", "c"], &["a", "b", "c"]);
    kept_half.easy(HeldOut, 40).add(HeldOut, "a", (0, 1), 40).questions.retain(|q| q.class != "c");
    kept_half.add(HeldOut, "c", (2, 2), 3).add(HeldOut, "c", (0, 2), 2);
    assert!(kept_half.judge().promote);
}

#[test]
fn a_new_data_set_does_not_move_the_ground() {
    // On its own images it wins 60 of 200; on those that the serving version was judged on it loses 3 of 60.
    let mut trial = Trial::new(&["a", "b"], &["a", "b"]);
    trial.easy(HeldOut, 70).add(HeldOut, "a", (0, 1), 30).add(HeldOut, "b", (1, 0), 30);
    trial.easy(Reference, 28).add(Reference, "a", (1, 0), 3).add(Reference, "b", (1, 1), 1);
    let verdict =
        trial.kept(&["worse: accuracy 95.00 % against 100.00 % on 60 images that the serving version"]);
    assert!(verdict.candidate_accuracy > verdict.serving_accuracy.unwrap());
    assert_eq!(verdict.reasons.len(), 1);
    // A class that is new on the new images and lost on the old ones, under an accuracy that may fall.
    let mut turned = Trial::new(&["a", "b"], &["a", "b"]);
    turned.easy(HeldOut, 100).easy(Reference, 20).add(Reference, "b", (0, 1), 8);
    let gate = Gate { max_drop: 0.5, ..Gate::default() };
    let verdict = turned.judge_by(&gate, &Rules::default());
    assert!(!verdict.promote && verdict.reasons.len() == 1, "{verdict:#?}");
    // The other way round: old images carry it, and its own are lost.
    let mut carried = Trial::new(&["a", "b"], &["a", "b"]);
    carried.easy(Reference, 300).easy(HeldOut, 20).questions.retain(|q| q.set == Reference || q.class == "a");
    carried.add(HeldOut, "a", (0, 1), 30).add(HeldOut, "b", (0, 1), 4).add(HeldOut, "b", (1, 1), 1);
    carried.kept(&["class \"b\" got worse: recall 20.00 % against 100.00 % on 5 images held out"]);
}

#[test]
fn an_image_in_both_sets_counts_once_and_is_in_both() {
    let mut trial = Trial::new(&["a", "b"], &["a", "b"]);
    trial.easy(HeldOut, 10);
    let again: Vec<Question> =
        trial.questions.iter().cloned().map(|q| Question { set: Reference, ..q }).collect();
    trial.questions.extend(again);
    let verdict = trial.kept(&["20 held-out images in all"]);
    assert_eq!((verdict.images, verdict.reference_images, verdict.compared.len()), (20, 20, 1));
}

#[test]
fn a_person_decides_where_the_rules_say_so() {
    let mut trial = Trial::new(&["a", "b"], &["a", "b"]);
    trial.easy(HeldOut, 30);
    let manual = Rules { manual: Some("a data key asked for this training".into()), ..Rules::default() };
    for mode in [GateMode::NoWorse, GateMode::Always, GateMode::Never] {
        let gate = Gate { mode, ..Gate::default() };
        let verdict = trial.judge_by(&gate, &manual);
        assert!(!verdict.promote);
        assert_eq!(verdict.reason, "a data key asked for this training");
        assert_eq!(trial.judge_by(&gate, &Rules::default()).promote, mode != GateMode::Never);
    }
    // Somebody who says always means it, and sees what speaks against it.
    let mut bad = Trial::new(&["a"], &["a", "b"]);
    bad.add(HeldOut, "a", (0, 1), 2).add(HeldOut, "b", (0, 1), 2);
    let always = Gate { mode: GateMode::Always, ..Gate::default() };
    let verdict = bad.judge_by(&always, &Rules::default());
    assert!(verdict.promote && verdict.reasons.len() > 2, "{verdict:#?}");
    let strict = Gate { min_accuracy: 0.75, ..always };
    let verdict = bad.judge_by(&strict, &Rules::default());
    assert!(!verdict.promote && verdict.reason.contains("75.00 % are asked for"), "{verdict:#?}");
}

#[test]
fn the_allowed_drop_is_allowed_to_the_image() {
    for (drop, lost, promoted) in
        [(0.02, 1, true), (0.02, 2, false), (0.0, 1, false), (0.1, 5, true), (0.1, 6, false)]
    {
        let mut trial = Trial::new(&["a", "b"], &["a", "b"]);
        trial.add(HeldOut, "a", (0, 0), 25 - lost).add(HeldOut, "a", (1, 0), lost);
        trial.add(HeldOut, "b", (1, 1), 25);
        // Six of six are more than chance explains, so they are won elsewhere in the class.
        let gate = Gate { max_drop: drop, ..Gate::default() };
        assert_eq!(trial.judge_by(&gate, &Rules::default()).promote, promoted, "{drop} {lost}");
    }
}

#[test]
fn images_that_cannot_be_read_are_left_out_and_counted() {
    let mut trial = Trial::new(&["a", "b"], &["a", "b"]);
    trial.easy(HeldOut, 20);
    let broken = |trial: &Trial, index: usize| trial.questions[index].path.clone();
    fs::write(broken(&trial, 0), "no picture").unwrap();
    fs::write(broken(&trial, 1), "").unwrap();
    fs::remove_file(broken(&trial, 2)).unwrap();
    fs::remove_file(broken(&trial, 21)).unwrap();
    fs::create_dir(broken(&trial, 21)).unwrap();
    let bytes = fs::read(broken(&trial, 22)).unwrap();
    fs::write(broken(&trial, 22), &bytes[..bytes.len() / 2]).unwrap();
    let verdict = trial.judge();
    assert_eq!((verdict.unreadable, verdict.images, verdict.promote), (5, 35, true), "{verdict:#?}");
    for question in &trial.questions {
        let _ = fs::remove_file(&question.path);
    }
    let verdict = trial.kept(&["0 held-out images in all"]);
    assert_eq!((verdict.unreadable, verdict.images, verdict.serving_accuracy), (40, 0, None));
}

#[test]
fn where_nothing_serves_only_the_accuracy_counts() {
    let mut trial = Trial::new(&["a", "b"], &["a", "b"]);
    trial.add(HeldOut, "a", (0, 0), 1).add(HeldOut, "b", (0, 0), 1);
    let evaluation = Tally::new(2, 1.0).unwrap().report("test", &["a".to_owned(), "b".to_owned()]);
    let candidate = Candidate { file: &trial.candidate, evaluation: &evaluation };
    let judge = |gate: &Gate, questions: &[Question], rules: &Rules| {
        gate.judge(&candidate, None, questions, rules, (Compute::on(1), &NEVER)).unwrap()
    };
    let (gate, rules) = (Gate::default(), Rules::default());
    let verdict = judge(&gate, &trial.questions, &rules);
    assert_eq!((verdict.promote, verdict.candidate_accuracy, verdict.serving_accuracy), (true, 0.5, None));
    assert!(verdict.reason.contains("nothing to compare it with"));
    let strict = Gate { min_accuracy: 0.6, ..gate.clone() };
    assert!(!judge(&strict, &trial.questions, &rules).promote);
    assert!(!judge(&strict, &[], &rules).promote);
    let manual = Rules { manual: Some("look first".into()), ..rules };
    assert!(!judge(&gate, &trial.questions, &manual).promote);
}

#[test]
fn a_raised_flag_stops_the_asking() {
    let mut trial = Trial::new(&["a", "b"], &["a", "b"]);
    trial.easy(HeldOut, 10);
    let evaluation = Tally::new(2, 1.0).unwrap().report("test", &["a".to_owned(), "b".to_owned()]);
    let candidate = Candidate { file: &trial.candidate, evaluation: &evaluation };
    let how = (Compute::on(1), &AtomicBool::new(true));
    let result = Gate::default().judge(&candidate, None, &trial.questions, &Rules::default(), how);
    assert!(matches!(result, Err(PipelineError::Stopped)));
}

#[test]
fn verdicts_of_earlier_programs_are_read() {
    let text = r#"{"promote":true,"reason":"no worse","split":"test","images":31,"candidate_accuracy":0.9,
        "serving_accuracy":0.8,"serving":"0123456789ab"}"#;
    let verdict: Verdict = serde_json::from_str(text).unwrap();
    assert!(verdict.promote && verdict.classes.is_empty() && verdict.rule.is_empty());
}

/// Trained models, of different sizes of input, are asked as evaluation asks them.
#[test]
fn the_gate_and_evaluation_agree() {
    use crate::{EvaluateOptions, Recipe, TrainOptions, evaluate, open_model, train};
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("photos");
    for (class, start) in [("dark", 0u32), ("light", 500)] {
        fs::create_dir_all(root.join(class)).unwrap();
        for seed in start..start + 40 {
            let path = root.join(class).join(format!("{seed}.png"));
            let image = ocelli_testing::picture(seed, 20 + seed % 3, 16);
            fs::write(path, ocelli_testing::encode(image, ImageFormat::Png)).unwrap();
        }
    }
    let fit = |side: u32| {
        let recipe = Recipe { epochs: 2, threads: 1, size: Some((side, side)), ..Recipe::default() };
        let options =
            TrainOptions { recipe, ..TrainOptions::new(Data::Path(root.clone()), dir.path().join("runs")) };
        let outcome = train(&options, &NEVER, &mut |_| {}).unwrap();
        (open_model(&outcome.best).unwrap(), outcome.evaluation.unwrap())
    };
    let ((candidate, evaluation), (serving, _)) = (fit(16), fit(12));
    let questions: Vec<Question> = evaluation
        .predictions
        .iter()
        .map(|row| Question {
            path: Path::new(&root).join(&row.name),
            class: row.label.clone(),
            set: HeldOut,
        })
        .collect();
    let own = Candidate { file: &candidate, evaluation: &evaluation };
    let how = (Compute::on(2), &NEVER);
    let rules = Rules::default();
    let verdict = Gate::default().judge(&own, Some(("old", &serving)), &questions, &rules, how).unwrap();
    assert_eq!((verdict.images, verdict.unreadable), (evaluation.images, 0));
    assert_eq!(verdict.candidate_accuracy, evaluation.accuracy);
    // The seed is the same, so the other model held out the same images.
    let options = EvaluateOptions {
        data: Data::Path(root),
        split: None,
        compute: Compute::on(1),
        max_bad: 0.0,
        mirror: false,
    };
    let other = evaluate(&serving, &options, &NEVER, &mut |_| {}).unwrap();
    assert_eq!(verdict.serving_accuracy, Some(other.accuracy));
}
