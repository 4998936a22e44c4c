//! Every file of a data folder that was used: deleted, emptied, cut, replaced by noise, made unreadable. The service starts
//! or says what to do, nothing else is lost, and `ocelli store check` names the file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Service, archive, is_long, listing, model, photos, serve, short_training, text};
use crate::shapes::CLASSES;
use crate::support::{Run, Sandbox};

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Deleted,
    Emptied,
    Cut,
    Noise,
    Replaced,
}

const HARMS: [Harm; 5] = [Harm::Deleted, Harm::Emptied, Harm::Cut, Harm::Noise, Harm::Replaced];

impl Harm {
    fn be_done(self, path: &Path) {
        let bytes = fs::read(path).unwrap();
        match self {
            Harm::Deleted => fs::remove_file(path).unwrap(),
            Harm::Emptied => fs::write(path, b"").unwrap(),
            Harm::Cut => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
            Harm::Noise => {
                let noise: Vec<u8> = bytes
                    .iter()
                    .zip(0u32..)
                    .map(|(b, i)| b ^ (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ 0x5a)
                    .collect();
                fs::write(path, noise).unwrap();
            }
            // Permissions do not stop root: a folder in its place does.
            Harm::Replaced => {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }
        }
    }
}

/// A data folder with a bit of everything, made once: images of two data sets, feedback, a promoted, a kept and an imported
/// version, jobs with their runs.
fn used(sandbox: &Sandbox) -> PathBuf {
    let service = Service::start(sandbox, &model());
    service.upload("default", &archive(&photos(1, 6, &CLASSES)));
    service.upload("other", &archive(&photos(2, 2, &CLASSES)));
    let image = &photos(3, 1, &["circle"])[0].1;
    assert_eq!(service.post("/v1/feedback?label=circle", "image/png", image).status, 201);
    assert_eq!(service.ended(service.retrain(&short_training()))["state"], "promoted");
    let never = json!({ "epochs": 1, "gate": { "mode": "never" } });
    assert_eq!(service.ended(service.retrain(&never))["state"], "kept");
    assert_eq!(service.stop("INT"), Some(0));
    sandbox.path().join("data")
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for (path, _) in listing(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

fn check(sandbox: &Sandbox, args: &str) -> (Run, Value) {
    let run = sandbox.run(&format!("store check data --json {args}"));
    let report = serde_json::from_str(run.stdout.trim()).unwrap_or(Value::Null);
    (run, report)
}

/// What a folder holds as its clients see it: images of each data set, feedback, versions, jobs.
fn seen(service: &Service) -> BTreeMap<&'static str, Vec<String>> {
    let ids = |path: &str, list: &str, id: &str| -> Vec<String> {
        let answer = service.get(path);
        if answer.status == 404 {
            return Vec::new();
        }
        let listed = answer.json()[list].as_array().unwrap().clone();
        listed.iter().filter(|entry| entry["damaged"].is_null()).map(|entry| entry[id].to_string()).collect()
    };
    BTreeMap::from([
        ("default", ids("/v1/datasets/default/images?limit=1000", "images", "id")),
        ("other", ids("/v1/datasets/other/images?limit=1000", "images", "id")),
        ("feedback", ids("/v1/feedback?limit=1000", "feedback", "id")),
        ("versions", ids("/v1/models", "versions", "version")),
        ("jobs", ids("/v1/jobs", "jobs", "id")),
    ])
}

#[test]
fn a_damaged_file_is_named_and_nothing_else_is_lost() {
    let sandbox = Sandbox::new();
    let data = used(&sandbox);
    let (run, report) = check(&sandbox, "");
    assert_eq!((run.code, &report["problems"]), (Some(0), &json!([])), "{run:#?}");
    let before = seen(&Service::start(&sandbox, ""));
    assert_eq!(before["default"].len() + before["other"].len(), 24);
    let saved = sandbox.path().join("saved");
    copy(&data, &saved);
    let image = photos(3, 1, &["circle"])[0].1.clone();

    let mut outcomes: BTreeMap<(String, Harm), Vec<String>> = BTreeMap::new();
    let mut seen_kinds: BTreeMap<String, usize> = BTreeMap::new();
    for (path, size) in listing(&saved) {
        let inner = path.strip_prefix(&saved).unwrap().to_str().unwrap().to_owned();
        if inner == "ocelli.db-shm" || inner == "ocelli.db-wal" && size == 0 {
            // An index of the log, and a log that is empty: SQLite makes both anew whenever it opens the database.
            continue;
        }
        let kind = kind(&inner);
        let count = seen_kinds.entry(kind.clone()).or_default();
        *count += 1;
        // Of files of one kind a few stand for all in the short form.
        if !is_long() && *count > if kind == "image" || kind == "run" { 2 } else { 1 } {
            continue;
        }
        for harm in HARMS {
            if size == 0 && matches!(harm, Harm::Emptied | Harm::Cut | Harm::Noise) {
                continue;
            }
            copy(&saved, &data);
            harm.be_done(&data.join(&inner));
            let (run, report) = check(&sandbox, "");
            let named = report["problems"]
                .as_array()
                .is_some_and(|problems| problems.iter().any(|problem| text(&problem["path"]) == inner));
            assert!(named && run.code == Some(1), "{inner} {harm:?} is not named: {run:#?}");
            let outcome = start(&sandbox, &before, &image, (&inner, harm));
            outcomes.entry((kind.clone(), harm)).or_default().push(outcome);
        }
    }
    for ((kind, harm), mut outcomes) in outcomes {
        let files = outcomes.len();
        outcomes.sort();
        outcomes.dedup();
        println!("{kind:10} {harm:9?} {files:3} files: {}", outcomes.join("; "));
    }
}

fn kind(inner: &str) -> String {
    match inner.split('/').next().unwrap() {
        "images" => "image".to_owned(),
        "models" => "version".to_owned(),
        "runs" => "run".to_owned(),
        "copies" => "copy".to_owned(),
        other => other.to_owned(),
    }
}

/// Starts the service on the damaged folder, repairs it first where it asks for that; says what became of it.
fn start(
    sandbox: &Sandbox,
    before: &BTreeMap<&str, Vec<String>>,
    image: &[u8],
    (inner, harm): (&str, Harm),
) -> String {
    let mut outcome = "starts";
    let service = match Service::launch(sandbox, serve(sandbox, "")) {
        Ok(service) => service,
        Err(run) => {
            assert!(
                run.stderr.contains("store check") && run.stderr.contains("data"),
                "{inner} {harm:?}: {run:#?}"
            );
            let (repaired, report) = check(sandbox, "--repair");
            assert_eq!(repaired.code, Some(0), "{inner} {harm:?}: {repaired:#?} {report:#}");
            outcome = "says how to repair it, and starts then";
            Service::launch(sandbox, serve(sandbox, ""))
                .unwrap_or_else(|run| panic!("{inner} {harm:?}: {run:#?}"))
        }
    };
    service.predict(image);
    let after = seen(&service);
    let lost: Vec<(&str, usize)> = before
        .iter()
        .map(|(what, ids)| (*what, ids.iter().filter(|id| !after[what].contains(id)).count()))
        .filter(|(_, count)| *count > 0)
        .collect();
    let id = Path::new(inner).file_stem().unwrap().to_str().unwrap().to_owned();
    let own = format!("{id:?}");
    let only_itself =
        before.iter().all(|(what, ids)| ids.iter().all(|known| *known == own || after[what].contains(known)));
    // What only the database held may be lost with it, as far as its copy does not have it.
    assert!(only_itself || inner.starts_with("ocelli.db"), "{inner} {harm:?} cost {lost:?}");
    if inner.starts_with("images/") && service.get("/v1/datasets/default/images?limit=1000").status == 200 {
        // Sent again, it is complete again.
        let mut restored = 0;
        for (dataset, seed, each) in [("default", 1, 6), ("other", 2, 2)] {
            restored += service.upload(dataset, &archive(&photos(seed, each, &CLASSES)))["restored"]
                .as_u64()
                .unwrap();
        }
        service.post("/v1/feedback?label=circle", "image/png", image);
        if harm != Harm::Replaced {
            let after = seen(&service);
            assert!(
                before.iter().all(|(what, ids)| ids.iter().all(|id| after[what].contains(id))),
                "{inner} {harm:?} {restored}"
            );
        }
    }
    assert_eq!(service.stop("INT"), Some(0));
    let lost = if lost.is_empty() { "nothing lost".to_owned() } else { format!("lost {lost:?}") };
    format!("{outcome}, {lost}")
}

#[test]
fn a_data_folder_can_be_moved() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    service.upload("default", &archive(&photos(4, 8, &CLASSES)));
    let number = service.retrain(&json!({ "epochs": 1000 }));
    super::until("the first epoch", || (service.job(number)["epochs"] != json!([])).then_some(()));
    assert_eq!(service.stop("INT"), Some(0));
    fs::rename(sandbox.path().join("data"), sandbox.path().join("elsewhere")).unwrap();
    let service = Service::start(&sandbox, "--data-dir elsewhere");
    let before = service.job(number)["epochs"].as_array().unwrap().len();
    super::until("another epoch", || {
        (service.job(number)["epochs"].as_array().unwrap().len() > before).then_some(())
    });
    assert_eq!(service.job(number)["attempts"], 2);
    service.delete(&format!("/v1/jobs/{number}"));
    assert_eq!(service.ended(number)["state"], "cancelled");
    assert_eq!(service.delete("/v1/datasets/default").status, 200);
}

#[test]
fn a_copy_made_while_serving_is_a_data_folder() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    service.upload("default", &archive(&photos(5, 8, &CLASSES)));
    assert_eq!(service.ended(service.retrain(&short_training()))["state"], "promoted");
    let run = sandbox.run("store backup data copy");
    assert_eq!(run.code, Some(0), "{run:#?}");
    let again = sandbox.run("store backup data copy");
    assert!(again.code != Some(0) && again.stderr.contains("not empty"), "{again:#?}");
    let (seen_there, version) = (seen(&service), service.version());
    assert_eq!(service.stop("INT"), Some(0));
    let run = sandbox.run("store check copy");
    assert_eq!(run.code, Some(0), "{run:#?}");
    let service = Service::start(&sandbox, "--data-dir copy");
    assert_eq!((seen(&service), service.version()), (seen_there, version));
    for bad in ["store check nowhere", "store backup nowhere x", "store check ."] {
        let run = sandbox.run(bad);
        assert!(run.code == Some(2) && run.stderr.contains("hint: "), "{bad}: {run:#?}");
    }
}
