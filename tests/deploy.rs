//! The files of deploy/: each can be read by what it is for, and names only what the program has.
#![allow(clippy::print_stdout, reason = "what a machine does not let it test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

use crate::service::replicas::nginx;
use crate::support::{Sandbox, Server};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap()
}

/// The options in a line or list of arguments.
fn options<'a>(arguments: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    arguments.filter(|word| word.starts_with("--")).map(|word| word.split('=').next().unwrap()).collect()
}

/// Whether `ocelli serve` has the options, each of them.
#[track_caller]
fn assert_options(help: &str, found: &[&str]) {
    assert!(!found.is_empty(), "no options");
    for option in found {
        let has = help.split_whitespace().any(|word| word.trim_end_matches([',', '[']) == *option);
        assert!(has, "`ocelli serve` has no {option}");
    }
}

/// A node in JSON, whose own look-ups are enough here.
fn json(node: &Yaml<'_>) -> Value {
    if let Some(map) = node.as_mapping() {
        return map.iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), json(value))).collect();
    }
    if let Some(list) = node.as_sequence() {
        return list.iter().map(json).collect();
    }
    match (node.as_integer(), node.as_bool(), node.as_str()) {
        (Some(number), ..) => number.into(),
        (_, Some(truth), _) => truth.into(),
        (.., Some(text)) => text.into(),
        _ => Value::Null,
    }
}

/// The documents of a manifest, each with a kind.
fn documents(name: &str) -> Vec<Value> {
    let text = text(name);
    let documents: Vec<Value> = Yaml::load_from_str(&text).unwrap().iter().map(json).collect();
    assert!(documents.iter().all(|document| document["kind"].is_string()), "{name}: {documents:#?}");
    documents
}

/// All values of a key, however deep.
fn all<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key));
            map.values().for_each(|value| all(value, key, found));
        }
        Value::Array(list) => list.iter().for_each(|value| all(value, key, found)),
        _ => {}
    }
}

fn found<'v>(value: &'v Value, key: &str) -> Vec<&'v Value> {
    let mut list = Vec::new();
    all(value, key, &mut list);
    list
}

#[test]
fn manifests_name_options_ports_and_paths_that_there_are() {
    let sandbox = Sandbox::new();
    let help = sandbox.ok("serve --help");
    let server = Server::start(&sandbox, "");
    let api = crate::http_client::request(&server.addr, "GET /openapi.json", "", b"").json();
    for (name, containers) in [("kubernetes.yaml", 2), ("kserve.yaml", 1)] {
        let documents = documents(name);
        let mut seen = 0;
        for container in documents
            .iter()
            .flat_map(|document| found(document, "containers"))
            .flat_map(|list| list.as_array().unwrap().iter())
        {
            seen += 1;
            let args: Vec<&str> =
                container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
            assert_eq!(args[0], "serve");
            assert_options(&help, &options(args.iter().copied()));
            let addr = args[args.iter().position(|arg| *arg == "--addr").unwrap() + 1];
            let port = &container["ports"][0];
            assert_eq!(
                port["containerPort"],
                addr.rsplit_once(':').unwrap().1.parse::<u64>().unwrap(),
                "{name}"
            );
            for probe in found(container, "httpGet") {
                let path = probe["path"].as_str().unwrap();
                assert!(api["paths"][path].is_object(), "{name}: there is no {path}");
                assert!(
                    probe["port"] == port["name"] || probe["port"] == port["containerPort"],
                    "{name}: {probe}"
                );
            }
            assert!(found(container, "httpGet").len() >= 2, "{name}");
            // Everything that is written to is a volume, as the rest cannot be written.
            let mounts: Vec<_> =
                container["volumeMounts"].as_array().unwrap().iter().map(|m| &m["mountPath"]).collect();
            let data = args[args.iter().position(|arg| *arg == "--data-dir").unwrap() + 1];
            assert!(mounts.contains(&&data.into()), "{name}: {data} is no volume");
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
        }
        assert_eq!(seen, containers, "{name}");
    }
    // Services find the pods that there are, and the autoscaler its deployment.
    let documents = documents("kubernetes.yaml");
    let pods: Vec<&Value> = documents
        .iter()
        .map(|d| &d["spec"]["template"]["metadata"]["labels"])
        .filter(|l| l.is_object())
        .collect();
    let mut kinds = Vec::new();
    for document in &documents {
        kinds.push(document["kind"].as_str().unwrap());
        match *kinds.last().unwrap() {
            "Service" => {
                assert!(pods.contains(&&document["spec"]["selector"]), "{document}");
                assert_eq!(document["spec"]["ports"][0]["targetPort"], "http");
            }
            "HorizontalPodAutoscaler" => {
                let target = &document["spec"]["scaleTargetRef"];
                let is_it =
                    |d: &&Value| d["kind"] == target["kind"] && d["metadata"]["name"] == target["name"];
                assert_eq!(documents.iter().filter(is_it).count(), 1, "{document}");
            }
            _ => {}
        }
    }
    for kind in ["Deployment", "StatefulSet", "Service", "HorizontalPodAutoscaler"] {
        assert!(kinds.contains(&kind), "there is no {kind}");
    }
}

#[test]
fn the_container_file_builds_what_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lines = text("Containerfile").replace("\\\n", " ");
    let mut stages = 0;
    let mut user = "";
    for line in lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').unwrap();
        match instruction {
            "FROM" => (stages, user) = (stages + 1, "root"),
            "USER" => user = rest,
            "RUN" if rest.contains("cargo") => {
                assert!(rest.contains("--release --locked --features"), "{rest}")
            }
            "CMD" => {
                let words: Vec<String> = serde_json::from_str(rest).unwrap();
                assert_eq!(words[0], "serve");
                assert_options(
                    &Sandbox::new().ok("serve --help"),
                    &options(words.iter().map(String::as_str)),
                );
            }
            "WORKDIR" | "COPY" | "ARG" | "RUN" | "VOLUME" | "EXPOSE" | "ENTRYPOINT" => {}
            other => panic!("{other} is no instruction that is used here"),
        }
    }
    assert_eq!((stages, user), (2, "10001:10001"), "it runs as root");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("cloud = [") && lines.contains("FEATURES=cloud"));
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(lines.contains(&format!("FROM rust:{version}-")), "the toolchain is not {version}");
}

#[test]
fn units_name_options_that_there_are() {
    let help = Sandbox::new().ok("serve --help");
    let sandbox = Sandbox::new();
    let program = sandbox.write("ocelli", "");
    let mut permissions = fs::metadata(&program).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&program, permissions).unwrap();
    for unit in ["ocelli-writer.service", "ocelli-replica.service"] {
        let text = text(&format!("systemd/{unit}"));
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = start.split_whitespace();
        assert_eq!((words.next(), words.next()), (Some("/usr/local/bin/ocelli"), Some("serve")));
        assert_options(&help, &options(words));
        let here = sandbox.write(unit, text.replace("/usr/local/bin/ocelli", &program.display().to_string()));
        match Command::new("systemd-analyze").arg("verify").arg(&here).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                // Of other units of the machine it has its own opinions.
                let about: Vec<&str> = said.lines().filter(|line| line.contains(unit)).collect();
                assert!(about.is_empty(), "{about:#?}");
            }
            Err(_) => println!("SKIPPED: there is no systemd-analyze"),
        }
    }
}

#[test]
fn nginx_takes_its_configuration() {
    let text = text("nginx.conf");
    assert_eq!(text.matches('{').count(), text.matches('}').count());
    let Some(program) = nginx() else { return };
    let sandbox = Sandbox::new();
    let output = Command::new(program)
        .args(["-t", "-e", "stderr", "-g", "pid nginx.pid;", "-p"])
        .arg(sandbox.path())
        .arg("-c")
        .arg(file("nginx.conf"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Without the rights of an administrator its folders for temporary files cannot be made.
    assert!(output.status.success() || said.contains("syntax is ok"), "{said}");
}
