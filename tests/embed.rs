//! `ocelli embed` and `ocelli similar`, and models by the names that they have in the program.

use crate::shapes::{self, Rng, photo};
use crate::support::Sandbox;

/// Circles and squares, three of each, with one square among the circles.
fn photos(sandbox: &Sandbox) {
    let mut rng = Rng(9);
    for (class, shape, names) in [
        ("circles", "circle", ["1.png", "2.png", "3.png"]),
        ("squares", "square", ["4.png", "5.png", "6.png"]),
    ] {
        for name in names {
            sandbox.write(&format!("photos/{class}/{name}"), shapes::png(&photo(shape, &mut rng)));
        }
    }
}

fn copy(sandbox: &Sandbox, from: &str, to: &str) {
    let bytes = std::fs::read(sandbox.path().join(from)).unwrap();
    sandbox.write(to, bytes);
}

#[test]
fn features_go_to_arrays_tables_and_lines() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    let run = sandbox.run("embed photos -o features.npy --json");
    assert_eq!(run.code, Some(0), "{run:#?}");
    let written = &run.json_lines()[0];
    assert_eq!((written["images"].as_u64(), written["features"].as_u64()), (Some(6), Some(1280)));
    assert_eq!(written["files"], serde_json::json!(["features.npy", "features.names.csv"]));
    let npy = std::fs::read(sandbox.path().join("features.npy")).unwrap();
    assert!(npy.starts_with(b"\x93NUMPY\x01\x00") && npy.len() == 128 + 4 * 6 * 1280);
    let names = std::fs::read_to_string(sandbox.path().join("features.names.csv")).unwrap();
    assert!(
        names.starts_with("name,class\ncircles/1.png,circles\n") && names.lines().count() == 7,
        "{names}"
    );

    // The same numbers in every form.
    let lines = sandbox.run("embed photos --json").json_lines();
    assert_eq!(lines.len(), 6);
    let table = sandbox.ok("embed photos");
    for (row, line) in lines.iter().enumerate() {
        let features: Vec<f32> =
            line["features"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        let cells: Vec<f32> = table
            .lines()
            .nth(row + 1)
            .unwrap()
            .split(',')
            .skip(2)
            .map(|cell| cell.parse().unwrap())
            .collect();
        let bytes = npy[128 + row * 4 * 1280..][..4 * 1280].as_chunks::<4>().0;
        let array: Vec<f32> = bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert_eq!((&features, &cells), (&array, &array), "row {row}");
        assert_eq!(line["model_version"], written["model_version"]);
    }

    sandbox.write("photos/circles/broken.png", b"\x89PNG\r\n\x1a\n and no more");
    let run = sandbox.run("embed photos -o again.csv");
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stderr.contains("circles/broken.png") && run.stderr.contains("1 image not read"), "{run:#?}");
    let again = std::fs::read_to_string(sandbox.path().join("again.csv")).unwrap();
    assert_eq!(again, table);
}

#[test]
fn what_cannot_be_embedded_is_said_before_the_work() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    for (args, says) in [
        ("embed photos --format npy", "-o features.npy"),
        ("embed photos -o features.txt", "--format npy or csv"),
        ("similar photos", "ocelli similar IMAGE DATA"),
        ("similar photos/circles/1.png photos --duplicates", "one data set"),
        ("similar photos --duplicates --suspects", "--suspects"),
        ("similar photos --duplicates --threshold 1.5", "0 to 1"),
        ("similar photos/circles/1.png photos -k 0", "from 1 on"),
    ] {
        let run = sandbox.run(args);
        assert_eq!(run.code, Some(2), "{args}: {run:#?}");
        assert!(run.stderr.contains(says), "{args}: {run:#?}");
    }
    for (args, says) in [
        ("embed absent", "absent"),
        ("similar absent.png photos", "absent.png"),
        ("embed photos -m nothing", "`imagenet` and `fashion-mnist` are in the program"),
    ] {
        let run = sandbox.run(args);
        assert_eq!(run.code, Some(1), "{args}: {run:#?}");
        assert!(run.stderr.contains(says), "{args}: {run:#?}");
    }
}

#[test]
fn similar_images_duplicates_and_doubtful_labels_are_found() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    copy(&sandbox, "photos/circles/1.png", "query.png");
    let lines = sandbox.run("similar query.png photos -k 3 --json").json_lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (lines[0]["name"].as_str(), lines[0]["class"].as_str()),
        (Some("circles/1.png"), Some("circles"))
    );
    assert!(lines[0]["similarity"].as_f64().unwrap() > 0.999_99);
    let order: Vec<f64> = lines.iter().map(|line| line["similarity"].as_f64().unwrap()).collect();
    assert!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
    let text = sandbox.ok("similar query.png photos -k 1");
    assert_eq!(text, "1.0000  circles/1.png  circles\n");

    copy(&sandbox, "photos/circles/1.png", "photos/squares/copy.png");
    let lines = sandbox.run("similar photos --duplicates --threshold 0.99999 --json").json_lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(
        (lines[0]["first"].as_str(), lines[0]["second"].as_str()),
        (Some("circles/1.png"), Some("squares/copy.png"))
    );
    assert_eq!((lines[1]["type"].as_str(), lines[1]["found"].as_u64()), (Some("duplicates"), Some(1)));

    // The nearest neighbour of the copy is the image itself, which has the other label.
    let lines = sandbox.run("similar photos --suspects -k 1 --json").json_lines();
    let doubtful = lines.iter().find(|line| line["name"] == "squares/copy.png").unwrap();
    assert_eq!(
        (doubtful["class"].as_str(), doubtful["neighbours"].as_str()),
        (Some("squares"), Some("circles"))
    );
    assert_eq!(doubtful["nearest"], "circles/1.png");
    assert_eq!(lines.last().unwrap()["type"], "suspects");

    let run = sandbox.run("similar photos/circles --suspects");
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert!(run.stderr.contains("no labels"), "{run:#?}");
}

#[test]
fn built_in_models_answer_by_name_and_files_of_that_name_go_first() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    let imagenet = sandbox.run("predict --model imagenet photos/circles/1.png --json").json_lines();
    let fashion = sandbox.run("predict fashion-mnist photos/circles/1.png --json").json_lines();
    let default = sandbox.run("predict photos/circles/1.png --json").json_lines();
    assert_eq!(imagenet[0]["top"].as_array().unwrap().len(), 5);
    assert!(imagenet[0]["index"].as_u64().is_some() && fashion == default);
    sandbox.write("imagenet", "a file of this name");
    let run = sandbox.run("predict --model imagenet photos/circles/1.png");
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stderr.contains("not a model file"), "{run:#?}");
}
