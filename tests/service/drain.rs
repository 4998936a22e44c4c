//! Shutdown without a lost request, and a data folder that cannot be written.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::events::follow;
use super::{Service, archive, model, photos, serve, short_training, text, until};
use crate::http_client::{head, read_answer, request};
use crate::shapes::CLASSES;
use crate::support::{Sandbox, signal};

/// Starts a request and keeps half of its body back.
fn half(addr: &str, image: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = head(addr, "POST /predict", &[("content-type", "image/png")], image.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&image[..image.len() / 2]).unwrap();
    stream
}

#[test]
fn shutdown_is_announced_and_no_request_is_lost() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &format!("{} --drain-delay 1.5", model()));
    let image = &photos(1, 1, &["circle"])[0].1;
    let expected = service.predict(image)["predictions"].clone();
    let mut open: Vec<TcpStream> = (0..8).map(|_| half(&service.addr, image)).collect();
    assert_eq!(service.get("/health/ready").status, 200);
    service.signal("TERM");
    let refused =
        until("the announcement", || Some(service.get("/health/ready")).filter(|a| a.status != 200));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    // Balancers look only now and then: until they have, work still comes, and is done.
    assert_eq!(service.get("/health/live").status, 200);
    assert_eq!(service.json("/status")["status"], "stopping");
    assert_eq!(service.predict(image)["predictions"], expected);
    // Then new connections are refused.
    until("the end of the delay", || TcpStream::connect(&service.addr).is_err().then_some(()));
    for stream in &mut open {
        stream.write_all(&image[image.len() / 2..]).unwrap();
        let answer = read_answer(stream).unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
        assert_eq!(answer.json()["predictions"], expected);
    }
    assert_eq!(service.wait(), Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &format!("{} --drain-delay 600", model()));
    let image = &photos(2, 1, &["circle"])[0].1;
    let mut waiting = half(&service.addr, image);
    service.signal("TERM");
    until("the announcement", || (service.get("/health/ready").status == 503).then_some(()));
    assert_eq!(service.stop("TERM"), Some(143));
    // Whoever was in flight sees the connection end.
    let mut rest = Vec::new();
    assert!(waiting.read_to_end(&mut rest).is_err() || rest.is_empty());
    // Ctrl-C has no balancer to wait for.
    let service = Service::start(&sandbox, "--drain-delay 600");
    assert_eq!(service.stop("INT"), Some(0));
}

#[test]
fn a_request_that_does_not_finish_is_cut_off_and_the_exit_code_says_so() {
    let sandbox = Sandbox::new();
    sandbox.write("limits.toml", "drain_timeout = 0.3\n");
    let service = Service::start(&sandbox, &format!("{} --config limits.toml --drain-delay 0", model()));
    let mut waiting = half(&service.addr, &photos(3, 1, &["circle"])[0].1);
    service.get("/health/live");
    let log = service.log.clone();
    assert_eq!(service.stop("TERM"), Some(1));
    let mut rest = Vec::new();
    assert!(waiting.read_to_end(&mut rest).is_err() || rest.is_empty());
    assert!(fs::read_to_string(log).unwrap().contains("1 connections did not finish within"));
}

#[test]
fn a_job_resumes_after_a_restart() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &format!("{} --drain-delay 0", model()));
    service.upload("default", &archive(&photos(4, 8, &CLASSES)));
    let number = service.retrain(&json!({ "epochs": 1000 }));
    let epochs = |service: &Service| service.job(number)["epochs"].as_array().unwrap().len();
    until("two epochs", || (epochs(&service) >= 2).then_some(()));
    // A follower is disconnected when the service ends, and reconnects with the last id that it has.
    let followed = std::thread::scope(|scope| {
        let follower = scope.spawn(|| follow(&service.addr, number, None).collect::<Vec<_>>());
        until("more epochs", || (epochs(&service) >= 4).then_some(()));
        service.signal("TERM");
        follower.join().unwrap()
    });
    assert_eq!(service.wait(), Some(0));
    let last = followed.iter().filter_map(|told| told.id).max().unwrap();

    let service = Service::start(&sandbox, "--drain-delay 0");
    let before = epochs(&service);
    assert!(before >= 4, "{before}");
    let job = until("its turn", || Some(service.job(number)).filter(|job| job["state"] == "running"));
    until("one more epoch", || (epochs(&service) > before).then_some(()));
    let job_now = service.job(number);
    let numbers: Vec<_> =
        job_now["epochs"].as_array().unwrap().iter().map(|epoch| epoch["epoch"].clone()).collect();
    assert!(numbers.iter().enumerate().all(|(i, epoch)| *epoch == i + 1), "{numbers:?}");
    assert_eq!(job_now["run"], job["run"], "the run goes on and is not a new one");
    service.delete(&format!("/v1/jobs/{number}"));
    let rest: Vec<_> = follow(&service.addr, number, Some(last)).filter_map(|told| told.id).collect();
    assert!(rest[0] == last + 1 && rest.is_sorted(), "{last}: {rest:?}");
    assert_eq!(service.ended(number)["state"], "cancelled");
    assert_eq!(service.stop("TERM"), Some(0));
}

/// Where the disk of a sandbox is small: a file system of its own, which the service alone sees and which ends with it.
fn on_small_disk(sandbox: &Sandbox) -> Option<Command> {
    let data = sandbox.path().join("data");
    fs::create_dir(&data).unwrap();
    let inner = serve(sandbox, &model());
    let script = "mount -t tmpfs -o size=64m none data && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c"]);
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs -o size=64m none data"]);
    let output = probe.current_dir(sandbox.path()).output();
    if !output.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: this system lets nobody make a small disk");
        return None;
    }
    command.arg(script).arg("sh").arg(inner.get_program()).args(inner.get_args());
    command
        .current_dir(sandbox.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped());
    Some(command)
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_refuses_uploads_and_ends_jobs_and_predictions_go_on() {
    let sandbox = Sandbox::new();
    let Some(command) = on_small_disk(&sandbox) else { return };
    let service = Service::launch(&sandbox, command).unwrap();
    let data = PathBuf::from(format!("/proc/{}/root{}", service.id(), sandbox.path().join("data").display()));
    let seed = service.version();
    let files = photos(5, 8, &CLASSES);
    let image = &files[0].1;
    service.upload("default", &archive(&files));
    let images = service.json("/v1/datasets/default/images");

    let filler = data.join("filler");
    let fill = || {
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    fill();
    let more = archive(&photos(6, 8, &CLASSES));
    let answer = service.post("/upload-data", "application/zip", &more);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (507, Some("disk_full")), "{answer:?}");
    let answer = service.post("/retrain", "application/json", short_training().to_string().as_bytes());
    assert_eq!(answer.status, 507, "{answer:?}");
    let answer = service.post("/v1/feedback?label=circle", "image/png", image);
    assert_eq!(answer.status, 507, "{answer:?}");
    assert_eq!(service.json("/v1/datasets/default/images"), images);
    service.predict(image);

    // A job that finds the disk full on its way.
    fs::remove_file(&filler).unwrap();
    let number = service.retrain(&json!({ "epochs": 1000 }));
    until("the first epoch", || (service.job(number)["epochs"] != json!([])).then_some(()));
    fill();
    // Followers are told, although it cannot be written down.
    let last = follow(&service.addr, number, None).last().unwrap();
    assert_eq!(last.data["state"], "failed", "{last:?}");
    service.predict(image);
    let job = service.job(number);
    assert_eq!(job["state"], "failed", "{job}");
    let error = text(&job["error"]);
    assert!(error.contains("disk") && error.contains("full"), "{error}");
    assert_eq!(service.version(), seed);

    // Room again: everything works again, without a restart.
    fs::remove_file(&filler).unwrap();
    assert_eq!(service.upload("default", &more)["accepted"], 24);
    let job = service.ended(service.retrain(&short_training()));
    assert_eq!(job["state"], "promoted", "{job}");
    signal(service.id(), "TERM");
    assert_eq!(service.wait(), Some(0));
}

/// All that a client can see of what the data folder holds, but for how many bytes it takes.
fn all_of(service: &Service) -> Vec<serde_json::Value> {
    let lists = ["/v1/models", "/v1/datasets", "/v1/feedback", "/v1/jobs", "/v1/audit"];
    let images = ["default", "other", "third"].map(|name| format!("/v1/datasets/{name}/images?limit=1000"));
    let paths = lists.map(str::to_owned).into_iter().chain(images);
    paths
        .map(|path| service.get(&path))
        .map(|answer| if answer.status == 200 { answer.json() } else { answer.status.into() })
        .collect()
}

#[test]
#[cfg(target_os = "linux")]
fn every_change_on_a_full_disk_is_done_or_refused_as_a_whole() {
    let sandbox = Sandbox::new();
    let Some(command) = on_small_disk(&sandbox) else { return };
    let service = Service::launch(&sandbox, command).unwrap();
    let data = PathBuf::from(format!("/proc/{}/root{}", service.id(), sandbox.path().join("data").display()));
    let files = photos(11, 8, &CLASSES);
    service.upload("default", &archive(&files));
    service.upload("other", &archive(&photos(12, 2, &CLASSES)));
    let train = |seed: u32, mode: &str, end: &str| {
        let request = json!({ "epochs": 1, "recipe": { "seed": seed }, "gate": { "mode": mode } });
        let job = service.ended(service.retrain(&request));
        assert_eq!(job["state"], end, "{job}");
        text(&job["version"])
    };
    let surplus = train(1, "never", "kept");
    let other = train(2, "never", "kept");
    let serving = train(3, "always", "promoted");
    let waiting: Vec<String> = photos(13, 3, &["circle"])
        .iter()
        .map(|(_, image)| {
            let answer = service.post("/v1/feedback?label=circle", "image/png", image);
            assert_eq!(answer.status, 201, "{answer:?}");
            text(&answer.json()["id"])
        })
        .collect();
    let images = service.json("/v1/datasets/default/images");
    let image = text(&images["images"][0]["id"]);
    let changes = [
        "POST /v1/models/rollback".to_owned(),
        format!("POST /v1/models/{other}/promote"),
        format!("DELETE /v1/models/{surplus}"),
        format!("POST /v1/feedback/{}/approve", waiting[0]),
        format!("POST /v1/feedback/{}/approve?dataset=third", waiting[1]),
        format!("DELETE /v1/feedback/{}", waiting[2]),
        format!("DELETE /v1/datasets/default/images/{image}"),
        "DELETE /v1/datasets/other".to_owned(),
    ];
    let filler = data.join("filler");
    let mut refused = Vec::new();
    for change in &changes {
        // What the change before it freed is filled again, to the last byte.
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        for piece in [4096, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
        let before = all_of(&service);
        let answer = request(&service.addr, change, "", b"");
        let after = all_of(&service);
        let code = answer.json()["code"].as_str().map(str::to_owned);
        println!("{:60} {} {}", change, answer.status, code.as_deref().unwrap_or("done"));
        if answer.status == 507 {
            assert_eq!(code.as_deref(), Some("disk_full"), "{answer:?}");
            assert_eq!(before, after, "{change}");
            refused.push(change);
        } else {
            assert_eq!(answer.status, 200, "{change}: {answer:?}");
            assert_ne!(before, after, "{change}");
        }
        service.predict(&files[0].1);
        assert_eq!(service.json("/status")["stand_in"], json!(null));
    }
    fs::remove_file(&filler).unwrap();
    for change in &refused {
        let answer = request(&service.addr, change, "", b"");
        assert_eq!(answer.status, 200, "{change}: {answer:?}");
    }
    // All of them have been done, once. A step back that had to wait for room may come after the promotion.
    let back_is_last = refused.contains(&&changes[0]) && !refused.contains(&&changes[1]);
    assert_eq!(service.version(), if back_is_last { serving } else { other });
    let now = |path: &str| service.json(path);
    let listed = now("/v1/models");
    assert!(listed["versions"].as_array().unwrap().iter().all(|own| own["version"] != json!(surplus)));
    assert_eq!(now("/v1/feedback")["total"], 0);
    assert_eq!(now("/v1/datasets/default")["images"], images["total"]);
    assert_eq!(now("/v1/datasets/third")["images"], 1);
    assert_eq!(service.get("/v1/datasets/other").status, 404);
    assert_eq!(service.get(&format!("/v1/datasets/default/images/{image}")).status, 404);
    let there = super::listing(&data.join("images"));
    let there = there.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "png")).count();
    assert_eq!(there as u64, images["total"].as_u64().unwrap() + 1);
    assert_eq!(service.upload("default", &archive(&photos(14, 8, &CLASSES)))["accepted"], 24);
    let job = service.ended(service.retrain(&short_training()));
    assert_eq!(job["state"], "promoted", "{job}");
    service.signal("INT");
    assert_eq!(service.wait(), Some(0));
}

/// Lets nobody write in a folder and those below it, or everybody.
fn set_mode(folder: &Path, mode: u32) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            set_mode(&entry, mode);
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
}

/// The command as somebody whom permissions stop, which they do not for root.
fn as_nobody(sandbox: &Sandbox, args: &str) -> Command {
    let mut command = serve(sandbox, args);
    let nobody = 65_534;
    let owner = fs::metadata(sandbox.path()).unwrap().uid();
    if owner == 0 || owner == nobody {
        chown(sandbox.path(), Some(nobody), Some(nobody)).unwrap();
        command.uid(nobody).gid(nobody);
    }
    command
}

#[test]
fn a_read_only_folder_is_reported_and_predictions_go_on() {
    let sandbox = Sandbox::new();
    fs::copy(Path::new(&model()).join("weights/best.ocelli"), sandbox.path().join("model.ocelli")).unwrap();
    let service = Service::launch(&sandbox, as_nobody(&sandbox, "model.ocelli")).unwrap();
    let files = photos(7, 4, &CLASSES);
    service.upload("default", &archive(&files));
    let images = service.json("/v1/datasets/default/images");
    let data = sandbox.path().join("data");
    set_mode(&data, 0o555);
    for (line, body) in [
        ("/upload-data", archive(&photos(8, 1, &CLASSES))),
        ("/retrain", Vec::new()),
        ("/v1/feedback?label=circle", files[0].1.clone()),
    ] {
        let answer = service.post(line, "application/octet-stream", &body);
        let detail = text(&answer.json()["detail"]);
        assert_eq!(answer.status, 500, "{line}: {answer:?}");
        assert!(detail.contains("data folder cannot be") && !detail.contains('/'), "{detail}");
    }
    assert_eq!(service.json("/v1/datasets/default/images"), images);
    service.predict(&files[0].1);
    assert_eq!(service.stop("TERM"), Some(0));

    // A start that could keep nothing says so and where.
    let run = Service::launch(&sandbox, as_nobody(&sandbox, "model.ocelli")).err().expect("no service");
    let words = ["error: ", "data", "ermission", "hint: "];
    assert!(run.code == Some(1) && words.iter().all(|word| run.stderr.contains(word)), "{run:#?}");
    set_mode(&data, 0o755);
    let service = Service::launch(&sandbox, as_nobody(&sandbox, "")).unwrap();
    assert_eq!(service.json("/v1/datasets/default/images"), images);
}

#[test]
fn two_services_do_not_share_a_folder() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let run = Service::launch(&sandbox, serve(&sandbox, "")).err().expect("no second service");
    assert!(run.code == Some(1) && run.stderr.contains("hint: "), "{run:#?}");
    assert_eq!(service.get("/health/ready").status, 200);
}
