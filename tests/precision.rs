//! `--precision bf16`, and what `auto` is.

use serde_json::Value;

use crate::http_client::request;
use crate::shapes::{self, CLASSES, RECIPE, Rng, TRAINED, photo};
use crate::support::{Sandbox, Server, accuracy, finish};

#[test]
fn a_run_in_bf16_learns_and_can_be_repeated_on_any_number_of_threads() {
    let sandbox = Sandbox::new();
    let data = TRAINED.data.display();
    let text = sandbox.ok(&format!("train {data} {RECIPE} --precision bf16 --threads 3 --name half"));
    assert!(accuracy(&text) > 0.9, "{text}");
    let recipe = std::fs::read_to_string(sandbox.path().join("runs/half-001/recipe.toml")).unwrap();
    assert!(recipe.contains("precision = \"bf16\"") && recipe.contains("# command line"), "{recipe}");
    // On as many threads as this machine has cores.
    let json = sandbox.ok("verify runs/half-001 --json");
    let verification: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(verification["same"], true, "{verification}");

    // A recipe that does not say is one in f32, as those of older versions are.
    let plain = std::fs::read_to_string(TRAINED.run_dir.join("recipe.toml")).unwrap();
    assert!(!plain.contains("precision"), "{plain}");
    // Its model is one like any other: in f32 and in bf16 it knows the same images.
    let measured = |precision: &str| {
        accuracy(&sandbox.ok(&format!("evaluate runs/half-001 {data} --precision {precision}")))
    };
    assert!((measured("f32") - measured("bf16")).abs() < 0.02);
}

#[test]
fn a_model_answers_in_bf16() {
    let sandbox = Sandbox::new();
    let mut rng = Rng(41);
    for (i, class) in CLASSES.iter().enumerate() {
        sandbox.write(&format!("{i}.png"), shapes::png(&photo(class, &mut rng)));
    }
    let model = TRAINED.run_dir.display();
    let answers = |precision: &str| {
        let line = format!("predict --model {model} 0.png 1.png 2.png --json --precision {precision}");
        sandbox.run(&line).json_lines()
    };
    let (exact, half) = (answers("f32"), answers("bf16"));
    assert_ne!(exact, half, "bf16 rounds");
    for (exact, half) in exact.iter().zip(&half) {
        assert_eq!(exact["label"], half["label"]);
        let [a, b] = [exact, half].map(|answer| answer["probability"].as_f64().unwrap());
        assert!((a - b).abs() < 0.05, "{a} and {b}");
    }
    let server = Server::start(&sandbox, &format!("{model} --precision bf16 --data-dir data"));
    assert_eq!(request(&server.addr, "GET /status", "", b"").json()["model"]["precision"], "bf16");
    let image = shapes::png(&photo(CLASSES[1], &mut rng));
    assert_eq!(request(&server.addr, "POST /predict", "image/png", &image).json()["label"], CLASSES[1]);
    assert_eq!(server.stop("TERM"), Some(0));
}

/// Whatever `auto` is on this machine, it says so and works; `OCELLI_TILES` takes tiles away.
#[test]
fn auto_is_bf16_where_the_processor_multiplies_tiles() {
    let sandbox = Sandbox::new();
    let data = TRAINED.data.display();
    let line = "bench --model keras-cnn-28 --mode train --batch 8 --seconds 0 --json";
    let precision = |line: &str, tiles: Option<&str>| {
        let mut command = sandbox.command(line);
        command.env_remove("OCELLI_TILES");
        command.envs(tiles.map(|tiles| ("OCELLI_TILES", tiles)));
        let record: Value = serde_json::from_str(&finish(command, &[]).ok()).unwrap();
        (record["precision"].clone(), record["unit"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(precision(line, Some("off")), ("f32".into(), String::new()));
    let (own, unit) = precision(line, None);
    assert_eq!(own == "bf16", unit == "amx-bf16", "{own} by {unit}");
    // Tiles in plain Rust are asked for by name: they are slow.
    assert_eq!(precision(line, Some("emulated")).0, "f32");
    let (own, unit) = precision(&format!("{line} --precision bf16"), Some("emulated"));
    assert_eq!((own, unit.as_str()), ("bf16".into(), "tiles-bf16"));

    let mut command = sandbox.command(&format!("train {data} {} --name auto", RECIPE.replace("20", "1")));
    command.env_remove("OCELLI_TILES");
    finish(command, &[]).ok();
    let recipe = std::fs::read_to_string(sandbox.path().join("runs/auto-001/recipe.toml")).unwrap();
    assert_eq!(recipe.contains("# this processor"), own_is_bf16(&sandbox), "{recipe}");
}

/// Whether `auto` is bf16 here.
fn own_is_bf16(sandbox: &Sandbox) -> bool {
    let mut command = sandbox.command("bench --model keras-cnn-28 --mode infer --batch 1 --seconds 0 --json");
    command.env_remove("OCELLI_TILES");
    finish(command, &[]).ok().contains("\"precision\":\"bf16\"")
}

#[test]
fn what_has_no_bf16_says_so() {
    let sandbox = Sandbox::new();
    for (line, said) in [
        ("train data --precision int8", "auto, f32, bf16"),
        ("train data --precision half", "auto, f32, bf16"),
        ("bench --mode explain --precision bf16", "heat maps are computed in f32"),
    ] {
        let run = sandbox.run(line);
        assert!(run.code == Some(2) && run.stderr.contains(said), "{line}: {run:#?}");
    }
}
