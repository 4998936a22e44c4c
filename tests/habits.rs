//! What every command has in common: streams, colours, JSON, help, exit codes.

use std::process::Stdio;

use ocelli_engine::model_file::ModelFile;

use crate::shapes::{self, Rng, TRAINED, photo};
use crate::support::{Sandbox, finish, json_lines, wait};

#[test]
fn help_and_version_go_to_standard_output() {
    let sandbox = Sandbox::new();
    let help = sandbox.ok("--help");
    for command in [
        "train",
        "verify",
        "evaluate",
        "predict",
        "explain",
        "serve",
        "bench",
        "flood",
        "clean",
        "demo",
        "doctor",
        "completions",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let own = sandbox.ok(&format!("{command} --help"));
        assert!(own.contains("Usage: ocelli"), "{command}: {own}");
        let computes = !["verify", "flood", "clean", "doctor", "completions"].contains(&command);
        assert_eq!(own.contains("--exact"), computes, "{command}: {own}");
    }
    assert_eq!(sandbox.ok("--version").trim(), format!("ocelli {}", env!("CARGO_PKG_VERSION")));
    let run = sandbox.run("");
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.contains("Usage: ocelli"), "{run:#?}");
}

#[test]
fn pipes_get_no_colours_unless_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.write("a.png", shapes::png(&photo("circle", &mut Rng(1))));
    let line = format!("predict {} a.png no.png", TRAINED.run_dir.display());
    let coloured = |name: &str, value: &str, extra: &str| {
        let mut command = sandbox.command(&format!("{line}{extra}"));
        command.env(name, value);
        let run = finish(command, &[]);
        assert_eq!(run.stdout.contains('\x1b'), run.stderr.contains('\x1b'), "{run:#?}");
        run.stdout.contains('\x1b')
    };
    assert!(!coloured("NO_COLOR", "1", ""));
    assert!(!coloured("NO_COLOR", "", ""));
    assert!(coloured("CLICOLOR_FORCE", "1", ""));
    assert!(coloured("NO_COLOR", "1", " --color always"));
    assert!(!coloured("CLICOLOR_FORCE", "1", " --color never"));
    let train = &TRAINED.run;
    assert!(!train.stdout.contains('\x1b') && !train.stderr.contains('\x1b'), "{train:#?}");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let sandbox = Sandbox::new();
    for line in ["completions bash", "--help", "doctor"] {
        let mut child = sandbox.command(line).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let run = wait(child);
        assert_eq!(run.code, Some(0), "{line}: {run:#?}");
        assert!(!run.stderr.contains("error"), "{line}: {run:#?}");
    }
}

#[test]
fn completions_for_every_shell() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = sandbox.ok(&format!("completions {shell}"));
        assert!(script.contains("ocelli") && script.contains("evaluate"), "{shell}: {script}");
    }
}

#[test]
fn doctor_looks_at_everything() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("doctor --json");
    let report = &run.json_lines()[0];
    assert_eq!((run.code, &report["ok"], &report["type"]), (Some(0), &true.into(), &"doctor".into()));
    let names: Vec<_> =
        report["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    let expected =
        ["program", "processor", "instructions", "threads", "memory", "run folder", "built-in model"];
    assert_eq!(names, expected);
    assert!(sandbox.ok("doctor").contains("instructions"));
    assert_eq!(std::fs::read_dir(sandbox.path()).unwrap().count(), 0, "doctor leaves files behind");

    let mut command = sandbox.command("doctor");
    command.env("OCELLI_ISA", "sse9");
    let run = finish(command, &[]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stdout.contains("sse9"), "{run:#?}");
}

#[test]
fn doctor_compares_a_models_layers_with_64_bits() {
    let sandbox = Sandbox::new();
    let model = TRAINED.run_dir.join("weights/best.ocelli");
    let run = sandbox.run(&format!("doctor --json --model {}", TRAINED.run_dir.display()));
    let report = &run.json_lines()[0];
    assert_eq!((run.code, &report["ok"]), (Some(0), &true.into()), "{run:#?}");
    let graph = ModelFile::load(&model).unwrap().model.graph().clone();
    assert!(report["model"]["probes"] == true && report["model"]["images"].as_u64() > Some(0), "{report}");
    for form in report["model"]["forms"].as_array().unwrap() {
        assert!(form["first_wrong"].is_null(), "{form}");
        let layers = form["layers"].as_array().unwrap();
        let names: Vec<&str> = layers.iter().map(|layer| layer["name"].as_str().unwrap()).collect();
        assert!(names.iter().eq(graph.nodes.iter().map(|node| &node.name)), "{names:?}");
        assert!(layers.iter().all(|layer| layer["part_of_bound"].as_f64() <= Some(1.0)), "{form}");
        assert!(layers.iter().any(|layer| layer["difference"].as_f64() > Some(0.0)), "nothing was computed");
    }

    // A weight that is another since the file's own answers were given.
    let mut file = ModelFile::load(&model).unwrap();
    let last = file.model.layout().entries().last().unwrap().offset;
    file.model.params_mut()[last] += 1.0;
    file.save(&sandbox.path().join("changed.ocelli")).unwrap();
    let run = sandbox.run("doctor --model changed.ocelli");
    assert_eq!(run.code, Some(1), "{run:#?}");
    let named = |line: &str| graph.nodes.iter().any(|node| line.starts_with(&node.name));
    assert!(
        run.stdout.contains("probe images")
            && run.stdout.lines().filter(|line| named(line)).count() >= graph.nodes.len(),
        "{run:#?}"
    );

    let run = sandbox.run("doctor --model nothing.ocelli");
    assert_ne!(run.code, Some(0), "{run:#?}");
}

#[test]
fn training_tells_its_events_as_json() {
    let sandbox = Sandbox::new();
    shapes::write_data_set(&sandbox.path().join("shapes"), 12);
    let run = sandbox.run("train shapes --epochs 2 --size 24 --json");
    let events = run.json_lines();
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    for expected in ["dataset", "model", "epoch", "evaluated", "done"] {
        assert!(types.contains(&expected), "{types:?}");
    }
    let last = events.last().unwrap();
    assert_eq!(last["type"], "done");
    assert_eq!(last["run_dir"], "runs/shapes-001");
    assert!(last["accuracy"].is_f64() && last["split"] == "test", "{last}");
    run.ok();
    // A second run gets a folder of its own, and its recipe gives the same bits.
    std::fs::copy(sandbox.path().join("runs/shapes-001/recipe.toml"), sandbox.path().join("again.toml"))
        .unwrap();
    let stdout = sandbox.ok("train shapes --config again.toml --json");
    let again = json_lines(&stdout);
    assert_eq!(again.last().unwrap()["run_dir"], "runs/shapes-002");
    assert_eq!(again.last().unwrap()["accuracy"], last["accuracy"]);
}

#[test]
fn a_dry_run_tells_what_a_run_will_take_and_writes_nothing() {
    let sandbox = Sandbox::new();
    shapes::write_data_set(&sandbox.path().join("shapes"), 3);
    let stdout = sandbox.ok("train shapes --dry-run --lr 0.01 --size 24");
    for expected in
        ["10 images in 3 classes", "lr = 0.01", "conv2d", "22x22x32", "model file about", "images/s"]
    {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    let run = &sandbox.run("train shapes --dry-run --json --size 24").json_lines()[0];
    assert_eq!((&run["type"], &run["classes"]["circle"]), (&"dry_run".into(), &4.into()));
    let layers = run["layers"].as_array().unwrap();
    let parameters: u64 = layers.iter().map(|layer| layer["parameters"].as_u64().unwrap()).sum();
    assert_eq!(run["parameters"], parameters);
    assert_eq!(run["timing"]["steps_s"].as_array().unwrap().len(), 3);
    assert!(run["timing"]["run_s"].as_f64().unwrap() > 0.0 && run["memory"]["plan"].as_u64().unwrap() > 0);
    assert!(!sandbox.path().join("runs").exists());
}

#[test]
fn a_learning_rate_is_found_and_its_curve_written() {
    let sandbox = Sandbox::new();
    shapes::write_data_set(&sandbox.path().join("shapes"), 12);
    let stdout = sandbox.ok("lr-find shapes --size 24 -o found");
    assert!(
        stdout.contains("\nvalley ") && stdout.contains("\nsteepest ") && stdout.contains('*'),
        "{stdout}"
    );
    let csv = std::fs::read_to_string(sandbox.path().join("found/lr_find.csv")).unwrap();
    let svg = std::fs::read_to_string(sandbox.path().join("found/lr_find.svg")).unwrap();
    assert!(csv.starts_with("step,lr,loss,smoothed_loss\n1,1e-7,") && svg.contains("valley: "), "{csv}");
    let found = &sandbox.run("lr-find shapes --size 24 --json").json_lines()[0];
    assert_eq!(found["type"], "lr_find");
    assert_eq!(found["points"].as_array().unwrap().len(), csv.lines().count() - 1);
    let valley = found["valley"].as_f64().unwrap() as f32;
    assert!(stdout.contains(&format!("valley {valley:.2e}")), "{stdout} {valley}");
    assert!(!sandbox.path().join("runs").exists());
    // Training finds the same.
    sandbox.ok("train shapes --size 24 --epochs 1 --lr auto");
    let recipe = std::fs::read_to_string(sandbox.path().join("runs/shapes-001/recipe.toml")).unwrap();
    assert!(recipe.contains(&format!("lr = {valley:?}")) && recipe.contains("lr-find (valley)"), "{recipe}");
}

#[test]
fn bench_gives_the_numbers_that_comparisons_read() {
    let sandbox = Sandbox::new();
    let bench = "bench --model keras-cnn-28 --batch 2 --threads 1 --seconds 0.05 --json";
    for (mode, exact) in [("train", false), ("infer", true), ("explain", true)] {
        let line = format!("{bench} --mode {mode}{}", if exact { " --exact" } else { "" });
        let record = &sandbox.run(&line).json_lines()[0];
        let number = |name: &str| record[name].as_f64().unwrap();
        assert!(0.0 < number("p10_ms") && number("p10_ms") <= number("median_ms"), "{record}");
        assert!(number("median_ms") <= number("p90_ms") && number("steps") >= 5.0, "{record}");
        assert_eq!(
            (&record["mode"], &record["threads"], &record["batch"]),
            (&mode.into(), &1.into(), &2.into())
        );
        assert_eq!(record["exact"], exact);
        let memory = |name: &str| record["memory"][name].as_u64().unwrap();
        let parts = memory("tensors") + memory("weights") + memory("scratch") + memory("parameters");
        assert!(memory("total") == parts && memory("weights") > 4 * 34_826, "{record}");
    }
}

#[test]
fn bench_measures_kernels_against_the_machine() {
    let sandbox = Sandbox::new();
    let lines = sandbox.run("bench kernels --quick --filter gemm/64 --json").json_lines();
    let (machine, rows) = lines.split_first().unwrap();
    assert_eq!(
        (&machine["type"], &machine["schema"], &machine["threads"]),
        (&"machine".into(), &1.into(), &1.into())
    );
    assert_eq!((&machine["isa"], &machine["kernels"]), (&machine["chosen"], &rows.len().into()));
    assert!(machine["available"].as_array().unwrap().contains(&machine["isa"]), "{machine}");
    let levels = machine["levels"].as_array().unwrap();
    assert_eq!(levels.last().unwrap()["level"], "DRAM");
    assert!(levels.iter().all(|level| level["bytes_per_second"].as_f64().unwrap() > 0.0), "{machine}");
    let available = machine["available"].as_array().unwrap().len();
    assert!(machine["peaks"].as_array().unwrap().len() > available, "{machine}");
    let isa = machine["isa"].as_str().unwrap();
    let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    let own = |id: &str| format!("{id}/{isa}/t1");
    assert_eq!(ids, [own("gemm/64x64x64"), own("gemm/64x64x64/with-pack")]);
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        assert_eq!((&row["type"], number("flops"), number("bytes")), (&"kernel".into(), 524_288.0, 49_152.0));
        for name in
            ["gflops", "gflops_p10", "gflops_p90", "peak_gflops", "fraction_of_peak", "roofline_gflops"]
        {
            assert!(number(name) > 0.0, "{name}: {row}");
        }
        assert!(number("error") < 1e-5 && number("fraction_of_roofline") > 0.0, "{row}");
        let bounds = ["compute", "L1", "L2", "L3", "DRAM"];
        assert!(bounds.contains(&row["bound"].as_str().unwrap()) && row.get("faster").is_some(), "{row}");
    }
}

#[test]
fn bench_prints_kernels_as_text_and_csv() {
    let sandbox = Sandbox::new();
    let line = "bench kernels --seconds 0 --filter softmax-ce/128 --isa portable --threads 2";
    let run = sandbox.run(line);
    assert!(run.stderr.contains("measuring 1 kernel"), "{run:#?}");
    let text = run.ok();
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    for word in
        ["machine ", "portable, register tiles of", "GB/s, 2 threads", "of peak", "\nsoftmax-ce/128x10 "]
    {
        assert!(text.contains(word), "`{word}` is not in {text}");
    }
    let csv = sandbox.ok(&format!("--quiet {line} --csv"));
    let rows: Vec<_> = csv.lines().skip_while(|line| line.starts_with('#')).collect();
    assert!(rows.len() == 2 && rows[0].starts_with("id,gflop_per_second,"), "{csv}");
    assert!(rows[1].starts_with("softmax-ce/128x10/portable/t2,"), "{csv}");
}
