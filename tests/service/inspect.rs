//! `POST /v1/inspect`: an archive is looked over, and nothing of it stays.

use ocelli_testing::hostile::zips;

use super::*;
use crate::shapes::CLASSES;

/// Photos with one file twice, one under two labels, and one that is broken.
fn faulty() -> Vec<u8> {
    let mut files = photos(4, 6, &CLASSES);
    let (first, other) = (files[0].1.clone(), files[1].1.clone());
    files.push(("circle/again.png".to_owned(), first));
    files.push(("square/also.png".to_owned(), other));
    files.push(("triangle/broken.png".to_owned(), b"\x89PNG\r\n\x1a\n and no more".to_vec()));
    archive(&files)
}

fn kinds(report: &Value) -> Vec<String> {
    report["findings"].as_array().unwrap().iter().map(|finding| text(&finding["kind"])).collect()
}

#[test]
fn an_archive_is_looked_over_and_not_kept() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let form = |content: &[u8], more: &str| {
        let head = "--XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.zip\"\r\n\r\n";
        [head.as_bytes(), content, b"\r\n--XX", more.as_bytes(), b"--\r\n"].concat()
    };
    let multipart = "multipart/form-data; boundary=XX";
    let zip = faulty();
    for (kind, body) in [("application/zip", zip.clone()), (multipart, form(&zip, "")), ("", zip.clone())] {
        let answer = service.post("/v1/inspect", kind, &body);
        assert_eq!(answer.status, 200, "{kind}: {answer:?}");
        let report = answer.json();
        assert_eq!(kinds(&report), ["conflicting_labels", "unreadable", "exact_duplicates"]);
        assert_eq!((&report["files"], &report["images"]), (&21.into(), &20.into()));
        assert_eq!(report["label_search"]["method"], "none");
        assert_eq!(report["findings"][0]["files"][0]["thumbnail"], Value::Null);
    }
    let staged = |(path, _): &(PathBuf, u64)| path.components().any(|part| part.as_os_str() == "incoming");
    assert!(!listing(sandbox.path()).iter().any(staged));
    assert_eq!(service.json("/v1/datasets")["datasets"], json!([]));
    // A form may not name a data set: there is none.
    let body = form(&zip, "\r\ncontent-disposition: form-data; name=\"dataset\"\r\n\r\nx\r\n--XX");
    let answer = service.post("/v1/inspect", multipart, &body);
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(text(&answer.json()["detail"]).contains("leave the field \"dataset\" out"), "{answer:?}");
}

#[test]
fn pictures_names_and_the_search_for_wrong_labels_are_asked_for() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let zip = faulty();
    let answer = service.post("/v1/inspect?thumbnails=1&files=1&suspects=18", "application/zip", &zip);
    assert_eq!(answer.status, 200, "{answer:?}");
    let report = answer.json();
    let conflict = &report["findings"][0];
    assert_eq!((conflict["files"].as_array().unwrap().len(), &conflict["files_total"]), (1, &2.into()));
    assert!(text(&conflict["files"][0]["thumbnail"]).starts_with("iVBORw0KGgo"));
    assert_eq!(report["label_search"]["method"], "features");
    for query in ["thumbnails=25", "files=0", "files=1001", "suspects=2001", "suspects=all", "sample=1"] {
        let answer = service.post(&format!("/v1/inspect?{query}"), "application/zip", &zip);
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
}

#[test]
fn malicious_archives_are_refused_as_they_are_by_an_upload() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let image = &photos(1, 1, &["circle"])[0].1;
    let prediction = service.predict(image);
    for zips::Hostile { name, bytes, says } in zips::corpus() {
        let answer = service.post("/v1/inspect", "application/zip", &bytes);
        let says = if name == "nothing" { "holds no archive" } else { says };
        assert!(matches!(answer.status, 400 | 413 | 422), "{name}: {answer:?}");
        assert!(text(&answer.json()["detail"]).contains(says), "{name}: {answer:?}");
    }
    assert_eq!(service.predict(image)["predictions"], prediction["predictions"]);
}
