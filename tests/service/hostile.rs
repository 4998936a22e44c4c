//! Malicious archives and images over HTTP: refused with a reason of ours, and no file of them is left.

use std::path::Path;

use super::{Service, archive, listing, memory, model, photos, text};
use crate::http_client::{Answer, form};
use crate::shapes::CLASSES;
use crate::support::Sandbox;
use ocelli_testing::hostile::images::{self, Fate};
use ocelli_testing::hostile::zips;

/// KiB by which the corpora may raise the peak of a service: many times what is in them, far less than they pretend to be.
const MOST_MEMORY: u64 = 160 << 10;

/// A refusal of ours: the client's fault, and why.
#[track_caller]
fn assert_refused(name: &str, answer: &Answer, says: &str) {
    assert!((400..500).contains(&answer.status), "{name}: {answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status, "{name}: {problem}");
    assert!(text(&problem["detail"]).contains(says), "{name}: `{says}` is not in {problem}");
}

/// All files of a sandbox but the log.
fn files(sandbox: &Sandbox) -> Vec<(std::path::PathBuf, u64)> {
    let log = Path::new("service.log");
    listing(sandbox.path()).into_iter().filter(|(path, _)| !path.ends_with(log)).collect()
}

/// Runs `harm` and checks that it costs little memory, leaves no file and takes away no answer.
fn survives(sandbox: &Sandbox, service: &Service, harm: impl FnOnce()) {
    let image = &photos(1, 1, &["circle"])[0].1;
    let (answer, before, used) = (service.predict(image), files(sandbox), memory(service, "VmHWM"));
    harm();
    assert_eq!(files(sandbox), before);
    assert_eq!(service.predict(image)["predictions"], answer["predictions"]);
    if let (Some(before), Some(after)) = (used, memory(service, "VmHWM")) {
        println!("peak memory: {before} KiB before, {after} KiB after");
        assert!(after <= before + MOST_MEMORY, "{before} KiB before, {after} KiB after");
    }
}

#[test]
fn hostile_archives_do_not_change_the_data_set() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    service.upload("default", &archive(&photos(2, 2, &CLASSES)));
    let images = service.json("/v1/datasets/default/images");
    survives(&sandbox, &service, || {
        for (i, zips::Hostile { name, bytes, says }) in zips::corpus().into_iter().enumerate() {
            let (kind, body) =
                if i % 2 == 0 { ("application/zip".to_owned(), bytes) } else { form(&[&bytes]) };
            let answer = service.post("/upload-data", &kind, &body);
            // Nothing at all is refused before it is looked at.
            let says = if name == "nothing" { "holds no archive" } else { says };
            assert_refused(&name, &answer, says);
        }
        // An archive is as good as its images.
        for (name, bytes, fate) in images::corpus() {
            let Fate::Refused(says) = fate else { continue };
            let zip = zips::zip(&[zips::Part::file("cats/1.png", &bytes)]);
            assert_refused(name, &service.post("/upload-data", "application/zip", &zip), says);
        }
    });
    assert_eq!(service.json("/v1/datasets/default/images"), images);
    assert_eq!(service.json("/v1/datasets")["datasets"].as_array().unwrap().len(), 1);
    // What is unusual and no more than that is taken.
    for (name, bytes) in zips::unusual() {
        let answer = service.post("/upload-data?dataset=unusual", "application/zip", &bytes);
        assert_eq!((answer.status, &answer.json()["accepted"]), (200, &4.into()), "{name}: {answer:?}");
    }
}

#[test]
fn hostile_images_get_a_prediction_or_a_reason() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let photo = photos(3, 1, &["square"]).remove(0).1;
    survives(&sandbox, &service, || {
        for (name, bytes, fate) in images::corpus() {
            let (kind, body) = form(&[&photo, &bytes]);
            let both = service.post("/predict", &kind, &body);
            let raw = service.post("/predict", "image/png", &bytes);
            match fate {
                Fate::Accepted(..) => assert_eq!((raw.status, both.status), (200, 200), "{name}: {raw:?}"),
                Fate::Refused(_) if bytes.is_empty() => assert_refused(name, &raw, "holds no image"),
                Fate::Refused(says) => {
                    assert_refused(name, &raw, says);
                    assert_refused(name, &both, "image 2 of 2 cannot be read: ");
                }
            }
        }
        for (i, cut) in images::cuts(&photo).enumerate() {
            let answer = service.post("/predict", "image/png", cut);
            assert_refused(&format!("cut at {i} %"), &answer, "image");
        }
    });
}

#[test]
fn names_in_paths_cannot_leave_the_data_folder() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    service.upload("default", &archive(&photos(4, 1, &CLASSES)));
    sandbox.write("secret/images.csv", "not yours");
    survives(&sandbox, &service, || {
        for name in
            ["..", "%2e%2e", "..%2f..%2fsecret", "%2Fetc", ".staging", "a%00b", "%ff", "default%2f..", "%5c"]
        {
            for path in [
                "/v1/datasets/NAME",
                "/v1/datasets/NAME/images",
                "/v1/datasets/NAME/images/x",
                "/v1/datasets/default/images/NAME",
                "/v1/datasets/default/images/NAME/thumbnail",
                "/v1/models/NAME/file",
                "/v1/models/NAME/evaluation",
                "/v1/jobs/NAME",
                "/v1/feedback/NAME/image",
                "/docs/NAME",
            ] {
                let path = path.replace("NAME", name);
                let answer = service.get(&path);
                assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
                assert_refused(&path, &answer, "");
            }
            let zip = archive(&photos(5, 1, &CLASSES));
            let path = format!("/upload-data?dataset={name}");
            assert_refused(&path, &service.post(&path, "application/zip", &zip), "");
        }
    });
}
