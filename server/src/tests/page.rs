//! The web page: what browsers get, and that its files fit together.

use std::collections::BTreeSet;
use std::path::Path;

use super::support::*;

/// Bytes of all files of the page together.
const MOST_BYTES: usize = 250_000;

/// The names and texts of the files as they stand in the sources.
fn sources() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/page");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
    };
    entries.map(read).collect()
}

#[test]
fn every_file_of_the_page_is_sent_with_its_type_and_a_tag() {
    let service = Service::start(patient());
    let page = service.send(&get("/"));
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    let policy = &page.headers["content-security-policy"];
    for rule in ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
    for (name, text) in sources().into_iter().filter(|(name, _)| name != "index.html") {
        let answer = service.send(&get(&format!("/assets/{name}")));
        assert_eq!((answer.status, answer.body), (200, text.into_bytes()), "{name}");
        let media_type = match name.rsplit_once('.').unwrap().1 {
            "js" => "text/javascript",
            "css" => "text/css",
            "svg" => "image/svg+xml",
            other => panic!("{other} is no kind of file that the page has"),
        };
        assert_eq!(answer.headers["content-type"], media_type, "{name}");
        let tag = &answer.headers["etag"];
        let again = service.send(
            format!("GET /assets/{name} HTTP/1.1\r\nhost: t\r\nif-none-match: {tag}\r\n\r\n").as_bytes(),
        );
        assert_eq!((again.status, again.body.len()), (304, 0), "{name}");
    }
    assert_eq!(service.send(&get("/assets/none.js")).status, 404);
    assert_eq!(service.send(&get("/assets/..%2Findex.html")).status, 404);
}

#[test]
fn the_page_asks_for_files_that_exist_and_for_no_other_host() {
    let sources = sources();
    let names: BTreeSet<&str> = sources.iter().map(|(name, _)| name.as_str()).collect();
    for (name, text) in &sources {
        for part in text.split("'./").skip(1) {
            let wanted = part.split('\'').next().unwrap();
            assert!(names.contains(wanted), "{name} asks for {wanted}");
        }
        for part in text.split("/assets/").skip(1) {
            let wanted = part.split('"').next().unwrap();
            assert!(names.contains(wanted), "{name} asks for {wanted}");
        }
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "{name} names a host");
        // Names of classes and files come from strangers.
        for unsafe_word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=\"",
            " onclick=",
        ] {
            assert!(!text.contains(unsafe_word), "{name} has {unsafe_word}");
        }
    }
    let bytes: usize = sources.iter().map(|(_, text)| text.len()).sum();
    assert!(bytes < MOST_BYTES, "the page weighs {bytes} bytes");
}
