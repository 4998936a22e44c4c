//! How a training is shown: a screen in a terminal, event files for TensorBoard.

#![allow(clippy::print_stdout, reason = "what a machine does not let it test")]

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::shapes;
use crate::support::{Sandbox, finish};

const TRAIN: &str = "train photos --start none --size 16 --epochs 3 --batch 16 --seed 3";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    shapes::write_data_set(&sandbox.path().join("photos"), 10);
    sandbox
}

/// CRC-32C bit by bit (RFC 3720, section 12.1), masked as TFRecord has it.
fn masked_crc(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The fields of a protocol buffer: number and bytes, numbers as eight bytes.
fn fields(mut data: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let varint = |data: &mut &[u8]| {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = data[0];
            *data = &data[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    };
    let mut found = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data) as u8;
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut data).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut data) as usize,
            5 => 4,
            other => panic!("type {other}"),
        };
        found.push((key >> 3, data[..length].to_vec()));
        data = &data[length..];
    }
    found
}

/// The scalars of an event file by name: steps and values.
fn scalars(mut file: &[u8]) -> BTreeMap<String, Vec<(u64, f32)>> {
    let mut found: BTreeMap<String, Vec<(u64, f32)>> = BTreeMap::new();
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    while !file.is_empty() {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        assert_eq!(word(&file[8..12]), masked_crc(&file[..8]));
        let data = &file[12..][..length];
        assert_eq!(word(&file[12 + length..][..4]), masked_crc(data));
        file = &file[16 + length..];
        let event: BTreeMap<u8, Vec<u8>> = fields(data).into_iter().collect();
        let Some(summary) = event.get(&5) else {
            assert_eq!(event[&3], b"brain.Event:2");
            continue;
        };
        let step = u64::from_le_bytes(event[&2].clone().try_into().unwrap());
        for (number, value) in fields(summary) {
            assert_eq!(number, 1);
            let value: BTreeMap<u8, Vec<u8>> = fields(&value).into_iter().collect();
            let name = String::from_utf8(value[&1].clone()).unwrap();
            found
                .entry(name)
                .or_default()
                .push((step, f32::from_le_bytes(value[&2].clone().try_into().unwrap())));
        }
    }
    found
}

#[test]
fn event_files_hold_the_numbers_of_results_csv() {
    let sandbox = sandbox();
    sandbox.ok(&format!("{TRAIN} --tensorboard --name board"));
    let run = sandbox.path().join("runs/board-001");
    let files: Vec<_> = std::fs::read_dir(&run)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().contains("tfevents"))
        .collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let scalars = scalars(&std::fs::read(file).unwrap());
    let table = std::fs::read_to_string(run.join("results.csv")).unwrap();
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows: Vec<Vec<f32>> =
        lines.map(|line| line.split(',').map(|value| value.parse().unwrap()).collect()).collect();
    for (name, column) in [
        ("learning_rate", "lr"),
        ("loss/train", "train_loss"),
        ("accuracy/train", "train_accuracy"),
        ("loss/validation", "val_loss"),
        ("accuracy/validation", "val_accuracy"),
    ] {
        let at = header.iter().position(|own| *own == column).unwrap();
        let expected: Vec<(u64, f32)> = (1..).zip(&rows).map(|(epoch, row)| (epoch, row[at])).collect();
        assert_eq!(scalars[name], expected, "{name}");
    }
    let steps = &scalars["step/loss"];
    assert!(steps.is_sorted_by(|a, b| a.0 < b.0), "{steps:?}");
}

#[test]
fn a_screen_needs_a_terminal_and_gives_it_back() {
    let sandbox = sandbox();
    let refused = sandbox.run(&format!("{TRAIN} --tui"));
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(refused.stderr.contains("--tui needs a terminal"), "{refused:#?}");
    assert!(!sandbox.path().join("runs").exists());
    // `script` runs a program in a terminal of its own.
    if Command::new("script").arg("--version").output().is_err() {
        println!("SKIPPED: there is no program `script`, which gives a terminal");
        return;
    }
    let program = sandbox.command("").get_program().to_str().unwrap().to_owned();
    let line = format!("stty rows 40 cols 120; {program} {TRAIN} --tui");
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(sandbox.path()).env("TERM", "xterm-256color");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = finish(command, &[]);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let (screen, after) = run.stdout.rsplit_once("\u{1b}[?1049l").expect("the screen is left");
    assert!(screen.contains("\u{1b}[?1049h"), "{screen}");
    assert!(after.contains("test accuracy") && after.contains("run folder"), "{after}");
}
