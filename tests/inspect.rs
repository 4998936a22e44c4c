//! `ocelli inspect`: what people and scripts see of it.

use crate::shapes::{self, Rng, photo};
use crate::support::Sandbox;

/// Circles and squares, twelve of each, in class folders.
fn photos(sandbox: &Sandbox) {
    let mut rng = Rng(3);
    for (class, shape) in [("circles", "circle"), ("squares", "square")] {
        for number in 0..12 {
            sandbox.write(&format!("photos/{class}/{number:02}.png"), shapes::png(&photo(shape, &mut rng)));
        }
    }
}

fn copy(sandbox: &Sandbox, from: &str, to: &str) {
    let bytes = std::fs::read(sandbox.path().join(from)).unwrap();
    sandbox.write(to, bytes);
}

#[test]
fn a_clean_data_set_is_described() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    let run = sandbox.run("inspect photos --suspects none --strict");
    assert_eq!(run.code, Some(0), "{run:#?}");
    for text in [
        "photos (class folders): 24 images in 2 classes",
        "read as class folders",
        "circles",
        "width",
        "24 PNG",
        "labels were not searched",
        "0 problems, 0 warnings, 0 notes",
    ] {
        assert!(run.stdout.contains(text), "{text}: {run:#?}");
    }
}

#[test]
fn problems_are_named_with_files_and_what_to_do_and_gate_with_strict() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    copy(&sandbox, "photos/circles/03.png", "photos/squares/also.png");
    sandbox.write("photos/circles/broken.png", b"\x89PNG\r\n\x1a\n and no more");
    let run = sandbox.run("inspect photos --suspects none");
    assert_eq!(run.code, Some(0), "{run:#?}");
    for text in [
        "problem: 1 image is in more than one class",
        "circles/03.png: the same file as squares/also.png",
        "what to do: decide which label is right",
        "warning: 1 file cannot be read",
        "circles/broken.png: ",
        "1 problem, 1 warning, 0 notes",
    ] {
        assert!(run.stdout.contains(text), "{text}: {run:#?}");
    }
    let run = sandbox.run("inspect photos --suspects none --strict --json");
    assert_eq!(run.code, Some(3), "{run:#?}");
    assert!(run.stderr.contains("gate missed: 1 problem found"), "{run:#?}");
    let report = &run.json_lines()[0];
    assert_eq!((report["schema"].as_u64(), report["type"].as_str()), (Some(1), Some("inspection")));
    assert_eq!((report["files"].as_u64(), report["images"].as_u64()), (Some(26), Some(25)));
    let kinds: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|f| f["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["conflicting_labels", "unreadable"]);
    assert_eq!(report["findings"][0]["files"][1]["classes"], serde_json::json!(["squares"]));
}

#[test]
fn the_page_stands_alone_and_shows_names_as_text() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    let hostile = "photos/circles/<img src=x onerror=alert(1)>.png";
    copy(&sandbox, "photos/circles/05.png", hostile);
    let run = sandbox.run("inspect photos --suspects none --html report.html --json");
    assert_eq!(run.code, Some(0), "{run:#?}");
    let page = std::fs::read_to_string(sandbox.path().join("report.html")).unwrap();
    assert!(
        page.contains("&lt;img src=x onerror=alert(1)&gt;.png") && !page.contains("<img src=x"),
        "{page}"
    );
    assert_eq!(page.matches("<img src=\"data:image/png;base64,").count(), 2);
    for word in ["http://", "https://", "<script"] {
        assert!(!page.contains(word), "{word}");
    }
    // Pictures are for the page alone.
    assert!(run.json_lines()[0]["findings"][0]["files"][0]["thumbnail"].is_null());
}

#[test]
fn tables_and_archives_are_inspected_too() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    let rows: String =
        (0..12).map(|n| format!("circles/{n:02}.png,round\nsquares/{n:02}.png,edgy\n")).collect();
    sandbox.write("labels.csv", format!("file,label\n{rows}"));
    let run = sandbox.run("inspect photos --labels labels.csv --suspects none --json");
    assert_eq!(run.code, Some(0), "{run:#?}");
    let names: Vec<String> = run.json_lines()[0]["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["edgy", "round"]);
}

#[test]
fn wrong_usage_is_said_before_the_work() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    for (args, code, says) in [
        ("inspect photos --suspects some", 2, "all, none, or a number"),
        ("inspect photos --channels 0", 2, "--channels"),
        ("inspect nothing-here", 1, "nothing-here"),
        ("inspect photos --model no-such-model", 1, "no-such-model"),
        ("inspect", 2, "DATA"),
    ] {
        let run = sandbox.run(args);
        assert_eq!(run.code, Some(code), "{args}: {run:#?}");
        assert!(run.stderr.contains(says), "{args}: {run:#?}");
    }
}
