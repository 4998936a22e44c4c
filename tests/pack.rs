//! `ocelli pack`: one program with a model inside, alone in a folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::shapes::{self, Rng, TRAINED, photo};
use crate::support::{Run, Sandbox, Server, finish};

/// A program by its path in a folder that holds nothing else that it needs, without any variable.
fn alone(program: &Path, folder: &Path, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line.split_whitespace()).current_dir(folder).env_clear().env("OCELLI_TILES", "off");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(program: &Path, folder: &Path, line: &str) -> Run {
    finish(alone(program, folder, line), &[])
}

/// The answers for an image, without its name.
fn classes(run: Run) -> String {
    let run = run.ok();
    run[run.find("\"label\"").unwrap_or_else(|| panic!("{run}"))..].to_owned()
}

#[test]
fn a_packed_program_answers_as_its_model_and_needs_nothing_else() {
    let sandbox = Sandbox::new();
    let image = shapes::png(&photo("square", &mut Rng(5)));
    sandbox.write("new.png", &image);
    let model = TRAINED.run_dir.display().to_string();
    let said = sandbox.run(&format!("pack {model} -o shapes --json")).json_lines();
    assert_eq!(said[0]["type"], "pack");
    assert_eq!(said[0]["written"], "shapes");
    assert_eq!(said[0]["bytes"], fs::metadata(sandbox.path().join("shapes")).unwrap().len());
    let expected = sandbox.run(&format!("predict -m {model} new.png --json"));

    let empty = Sandbox::new();
    let program = empty.path().join("shapes");
    fs::rename(sandbox.path().join("shapes"), &program).unwrap();
    empty.write("new.png", &image);
    let answer = |line: &str| run(&program, empty.path(), line);
    let expected = classes(expected);
    assert_eq!(classes(answer("predict new.png --json")), expected);
    assert_eq!(classes(answer("predict -m packed new.png --json")), expected);
    assert!(answer("pack --check").ok().contains("test images answered as when it was made"));
    // What ships with the program is still there, and so are its checks.
    assert_ne!(classes(answer("predict -m fashion-mnist new.png --json")), expected);

    let server = Server::launch(alone(
        &program,
        empty.path(),
        "serve --addr 127.0.0.1:0 --drain-delay 0 --data-dir d",
    ));
    let server = server.unwrap_or_else(|run| panic!("{run:#?}"));
    assert_eq!(server.stop("TERM"), Some(0));

    // Packed again, the new model takes the place of the old one.
    let said = answer("pack fashion-mnist -o clothes --json").json_lines();
    let clothes = empty.path().join("clothes");
    assert_eq!(said[0]["bytes"], fs::metadata(&clothes).unwrap().len());
    let fashion = classes(answer("predict -m fashion-mnist new.png --json"));
    assert_eq!(classes(run(&clothes, empty.path(), "predict new.png --json")), fashion);
}

#[test]
fn a_damaged_program_says_so_and_answers_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("new.png", shapes::png(&photo("square", &mut Rng(5))));
    sandbox.ok("pack fashion-mnist -o clothes");
    let program = sandbox.path().join("clothes");
    let whole = fs::read(&program).unwrap();
    let end = whole.len();
    let mut flipped = whole.clone();
    flipped[end - 100] ^= 1;
    let mut unmarked = whole.clone();
    unmarked[end - 1] ^= 1;
    for (damaged, says) in [
        (flipped, "the model in it is damaged"),
        (unmarked, "its end is damaged or cut off"),
        (whole[..end - 1000].to_vec(), "its end is damaged or cut off"),
    ] {
        fs::write(&program, damaged).unwrap();
        for line in ["predict new.png", "pack --check", "serve --addr 127.0.0.1:0"] {
            let run = run(&program, sandbox.path(), line);
            assert_eq!(run.code, Some(1), "{line}: {run:#?}");
            assert!(run.stderr.contains(says) && run.stderr.contains("pack the model again"), "{run:#?}");
            assert!(run.stdout.is_empty(), "{run:#?}");
        }
    }
}

#[test]
fn what_cannot_be_packed_is_an_error_that_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("no.ocelli", "no model");
    for (line, code) in [
        ("pack no.ocelli -o program", 1),
        ("pack missing.ocelli -o program", 1),
        ("pack fashion-mnist -o nowhere/program", 1),
        ("pack fashion-mnist", 2),
        ("pack --check", 1),
    ] {
        let run = sandbox.run(line);
        assert_eq!(run.code, Some(code), "{line}: {run:#?}");
    }
    assert_eq!(fs::read_dir(sandbox.path()).unwrap().count(), 1);
}
