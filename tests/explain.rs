//! `ocelli explain`: pictures, text and JSON of what in images speaks for a class.

use image::{GenericImageView, Rgb, RgbImage};
use serde_json::Value;

use crate::shapes::{self, Rng, TRAINED, photo};
use crate::support::{Run, Sandbox};

fn explain(sandbox: &Sandbox, args: &str) -> Run {
    sandbox.run(&format!("explain -m {} {args}", TRAINED.run_dir.display()))
}

fn picture(sandbox: &Sandbox, name: &str) -> RgbImage {
    let bytes = std::fs::read(sandbox.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    image::load_from_memory(&bytes).unwrap().to_rgb8()
}

fn names(sandbox: &Sandbox, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.path().join(folder)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_image_becomes_a_picture_of_itself_its_map_and_both() {
    let sandbox = Sandbox::new();
    sandbox.write("photos/a.png", shapes::png(&photo("square", &mut Rng(5))));
    let run = explain(&sandbox, "photos/a.png");
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:#?}");
    let (path, rest) = run.stdout.trim_end().split_once("  ").unwrap();
    assert_eq!((path, rest.rsplit_once("  ").unwrap().1), ("photos/a.png", "a.explain.png"));
    // Nothing of it stands beside the image.
    assert_eq!(names(&sandbox, "photos"), ["a.png"]);
    assert_eq!(names(&sandbox, ""), ["a.explain.png", "photos"]);
    // 32 pixels seven times as large, three times beside each other.
    let found = picture(&sandbox, "a.explain.png");
    assert_eq!(found.dimensions(), (3 * 224 + 2 * 4, 224));
    let part = |i: u32| found.view(i * 228, 0, 224, 224).to_image();
    let [own, map, both] = [0, 1, 2].map(part);
    assert!(own != map && map != both && own != both);
    for ((own, map), both) in own.pixels().zip(map.pixels()).zip(both.pixels()) {
        let near = |c: usize| (i32::from(own[c]) + i32::from(map[c]) - 2 * i32::from(both[c])).abs() <= 1;
        assert!((0..3).all(near), "{own:?} {map:?} {both:?}");
    }
    // The place that speaks most for the class is yellow, or next to it, as its middle may lie between pixels.
    assert!(map.pixels().any(|Rgb([red, green, blue])| *red > 120 && *green > 200 && *blue < 90));

    // What is there stays, unless it is to be replaced.
    let before = std::fs::read(sandbox.path().join("a.explain.png")).unwrap();
    let again = explain(&sandbox, "photos/a.png --class circle");
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""), "{again:#?}");
    assert!(again.stderr.contains("a.explain.png: there already") && again.stderr.contains("--overwrite"));
    assert_eq!(std::fs::read(sandbox.path().join("a.explain.png")).unwrap(), before);
    let replaced = explain(&sandbox, "photos/a.png --class circle --overwrite").ok();
    assert!(replaced.contains("  circle "), "{replaced}");
    assert_ne!(std::fs::read(sandbox.path().join("a.explain.png")).unwrap(), before);
}

#[test]
fn json_holds_the_map_and_agrees_with_predict() {
    let sandbox = Sandbox::new();
    for (name, shape, seed) in [("a.png", "square", 5), ("b.png", "circle", 6)] {
        sandbox.write(name, shapes::png(&photo(shape, &mut Rng(seed))));
    }
    let model = TRAINED.run_dir.display();
    let predicted = sandbox.run(&format!("predict -m {model} a.png b.png --json"));
    for (method, layer) in [("gradcam", true), ("layercam", true), ("occlusion", false)] {
        let run = explain(&sandbox, &format!("a.png b.png --json --method {method} -o {method}/"));
        assert_eq!(run.code, Some(0), "{run:#?}");
        let lines = run.json_lines();
        assert_eq!(lines.len(), 2);
        for (line, predicted) in lines.iter().zip(predicted.json_lines()) {
            assert_eq!((&line["schema"], &line["type"]), (&Value::from(1), &Value::from("explanation")));
            for (ours, theirs) in [("path", "path"), ("class", "label"), ("index", "index")] {
                assert_eq!(line[ours], predicted[theirs], "{line}");
            }
            assert_eq!(line["probability"], predicted["probability"], "{line}");
            assert_eq!((&line["method"], line["layer"].is_string()), (&Value::from(method), layer));
            let (width, height) =
                (line["map"]["width"].as_u64().unwrap(), line["map"]["height"].as_u64().unwrap());
            let values = line["map"]["values"].as_array().unwrap();
            assert_eq!(values.len() as u64, width * height);
            assert!(values.iter().all(|value| (0.0..=1.0).contains(&value.as_f64().unwrap())));
            assert!(width > 1 && height > 1, "{line}");
            assert!(sandbox.path().join(line["file"].as_str().unwrap()).is_file(), "{line}");
        }
    }
    // The same bits on any number of threads.
    let once = |threads: u32| explain(&sandbox, &format!("a.png --json --overwrite -t {threads}")).ok();
    assert_eq!(once(1), once(2));
}

#[test]
fn a_folder_becomes_a_contact_sheet_and_a_bad_image_stops_nothing() {
    let sandbox = Sandbox::new();
    let mut rng = Rng(9);
    for i in 0..5 {
        sandbox.write(&format!("pets/{i}.png"), shapes::png(&photo("triangle", &mut rng)));
    }
    sandbox.write("pets/bad.png", "no picture");
    sandbox.write("pets/notes.txt", "hello");
    let run = explain(&sandbox, "pets -o maps/ --json");
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stderr.contains("1 file not explained"), "{run:#?}");
    let lines = run.json_lines();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("explanation"), of("error"), of("note"), lines.len()), (5, 1, 1, 7));
    assert!(
        lines
            .iter()
            .filter(|line| line["type"] == "explanation")
            .all(|l| l["file"] == "maps/pets.explain.png")
    );
    assert_eq!(names(&sandbox, "maps"), ["pets.explain.png"]);
    // Three by two pictures of 96 pixels.
    assert_eq!(picture(&sandbox, "maps/pets.explain.png").dimensions(), (3 * 96 + 2 * 2, 2 * 96 + 2));

    // Pictures of an earlier call are no images.
    std::fs::remove_file(sandbox.path().join("pets/bad.png")).unwrap();
    explain(&sandbox, "pets/0.png pets -o pets").ok();
    assert!(names(&sandbox, "pets").contains(&"0.explain.png".to_owned()));
    let again = explain(&sandbox, "pets -o pets --overwrite");
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert!(again.stderr.contains("note: 2 pictures of this command left out"), "{again:#?}");
    assert_eq!(again.stdout.lines().count(), 5, "{again:#?}");

    // More than a sheet holds go on a second one; images of one name get numbers.
    for i in 0..65 {
        sandbox.write(&format!("many/{i}.png"), shapes::png(&photo("circle", &mut rng)));
    }
    explain(&sandbox, "many pets/1.png many/1.png").ok();
    let made = ["1.explain-2.png", "1.explain.png", "many.explain-2.png", "many.explain.png"];
    assert!(
        made.iter().all(|name| names(&sandbox, "").contains(&(*name).to_owned())),
        "{:?}",
        names(&sandbox, "")
    );
}

#[test]
fn maps_are_printed_as_text_with_colours_where_they_are_wanted() {
    let sandbox = Sandbox::new();
    let image = shapes::png(&photo("square", &mut Rng(5)));
    sandbox.write("a.png", &image);
    let plain = explain(&sandbox, "a.png --ascii").ok();
    let lines: Vec<&str> = plain.lines().collect();
    assert_eq!(lines.len(), 17, "{plain}");
    assert!(lines[1..].iter().all(|line| line.len() == 32 && line.chars().all(|c| " .:-=+*#%@".contains(c))));
    assert!(plain.contains("@@"), "{plain}");
    let coloured = explain(&sandbox, "a.png --ascii --overwrite --color always").ok();
    assert!(coloured.contains("\x1b[30;48;5;") && coloured.ends_with("\x1b[0m\n"), "{coloured:?}");
    let stripped: String =
        coloured.split('\x1b').map(|part| part.split_once('m').map_or(part, |p| p.1)).collect();
    assert_eq!(stripped, plain);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let sandbox = Sandbox::new();
    let image = shapes::png(&photo("square", &mut Rng(5)));
    sandbox.write("a.png", &image);
    sandbox.write("b.png", &image);
    for (args, code, says) in [
        ("a.png --class sqare", 2, "the model has no class \"sqare\"; most like it: square"),
        ("a.png --layer nowhere", 2, "the model has no layer \"nowhere\"; most like it: "),
        ("a.png --method occlusion --layer x", 2, "occlusion looks at no layer"),
        ("a.png --method saliency", 2, "[possible values: gradcam, layercam, occlusion]"),
        ("a.png b.png -o c.png", 2, "c.png: one file, for 2 pictures"),
        ("a.png -o maps", 2, "maps: neither a folder that is there nor a name for a PNG"),
        ("a.png --ascii --json", 2, "cannot be used with"),
        ("none.png", 1, "none.png: No such file"),
        ("a.png -o none/c.png", 1, "No such file"),
    ] {
        let run = explain(&sandbox, args);
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{args}: {run:#?}");
        assert!(run.stderr.contains(says), "{args}: {run:#?}");
        assert_eq!(names(&sandbox, ""), ["a.png", "b.png"], "{args}");
    }
    let run = sandbox.run(&format!("explain {}", TRAINED.run_dir.display()));
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert!(run.stderr.contains("a model is given, but no image"), "{run:#?}");
    explain(&sandbox, "a.png -o c.PNG").ok();
    assert_eq!(names(&sandbox, ""), ["a.png", "b.png", "c.PNG"]);
}
