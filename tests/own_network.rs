//! `ocelli train --model FILE.toml`: networks of people's own.

use ocelli_engine::model_file::ModelFile;

use crate::shapes;
use crate::support::Sandbox;

#[test]
fn a_network_from_a_file_trains_resumes_and_predicts() {
    let sandbox = Sandbox::new();
    shapes::write_data_set(&sandbox.path().join("shapes"), 6);
    let text = sandbox.ok("train --print-network resnet9");
    // Narrower, so that it trains in a moment.
    let narrow = ["512", "256", "128", "64"]
        .iter()
        .fold(text, |text, filters| text.replace(&format!("filters = {filters}\n"), "filters = 8\n"));
    sandbox.write("nets/mine.toml", &narrow);
    let stdout = sandbox.ok("train shapes --model nets/mine.toml --epochs 2 --size 24");
    assert!(stdout.contains("test accuracy"), "{stdout}");
    let run = sandbox.path().join("runs/shapes-001");
    assert_eq!(std::fs::read_to_string(run.join("network.toml")).unwrap(), narrow);
    let recipe = std::fs::read_to_string(run.join("recipe.toml")).unwrap();
    assert!(recipe.contains("model = \"network.toml\"") && recipe.contains("nets/mine.toml"), "{recipe}");

    // The run has all that it needs: the first file may go, the recipe finds the network beside it.
    std::fs::remove_dir_all(sandbox.path().join("nets")).unwrap();
    sandbox.ok("train shapes --config runs/shapes-001/recipe.toml");
    let model =
        |run: &str| ModelFile::load(&sandbox.path().join(run).join("weights/best.ocelli")).unwrap().model;
    let (first, second) = (model("runs/shapes-001"), model("runs/shapes-002"));
    assert_eq!(first.graph(), second.graph());
    assert!(first.params() == second.params(), "the recipe and the network give the same weights again");
    sandbox.ok("train --resume runs/shapes-001 --epochs 3");
    let image =
        std::fs::read_dir(sandbox.path().join("shapes/circle")).unwrap().next().unwrap().unwrap().path();
    let stdout = sandbox.ok(&format!("predict --model runs/shapes-001 {}", image.display()));
    assert!(stdout.contains("circle") || stdout.contains("square"), "{stdout}");
}

#[test]
fn what_is_wrong_with_a_network_is_said_before_an_image_is_read() {
    let sandbox = Sandbox::new();
    shapes::write_data_set(&sandbox.path().join("shapes"), 3);
    sandbox.write(
        "net.toml",
        "[[layer]]\nop = \"conv2d\"\nfilters = 4\nkernel = 3\n[[layer]]\nop = \"dense\"\nunits = 3\n",
    );
    let run = sandbox.run("train shapes --model net.toml --size 24");
    assert_eq!(run.code, Some(2), "{run:#?}");
    let expected = "net.toml line 6, layer 2 `dense_2` (dense): needs a flat input, found 22x22x4: put a flatten or global pool";
    assert!(run.stderr.contains(expected) && run.stderr.contains("--print-network"), "{run:#?}");
    let run = sandbox.run("train shapes --model missing.toml");
    assert!(run.code == Some(1) && run.stderr.contains("missing.toml"), "{run:#?}");
    let run = sandbox.run("train shapes --model resnet");
    assert!(run.code == Some(2) && run.stderr.contains("resnet9"), "{run:#?}");
    assert!(!sandbox.path().join("runs").exists());
}
