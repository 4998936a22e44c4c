//! Event files for TensorBoard: the curves of a run, in its folder.
//!
//! A file is a sequence of records, each of them `length u64, crc u32 of it, data, crc u32 of it`, little-endian, with the
//! masked CRC-32C of TFRecord (tensorflow.org, "TFRecord and tf.train.Example"). The data is a protocol buffer `Event`
//! (tensorflow/core/util/event.proto, summary.proto), of which the few fields that a scalar needs are written here.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use ocelli_pipeline::Event;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Added to a rotated checksum, so that checksums of data which holds checksums stay good ones.
const MASK: u32 = 0xa282_ead8;

/// Files of one second in one folder.
const MAX_FILES: u32 = 1000;

/// Types of fields in a protocol buffer: variable-length numbers, eight bytes, a length and bytes, four bytes.
const VARINT: u8 = 0;
const EIGHT: u8 = 1;
const BYTES: u8 = 2;
const FOUR: u8 = 5;

/// Writes what a run tells into its folder. The first error ends that and is kept: training goes on.
#[derive(Default)]
pub(crate) struct TensorBoard {
    file: Option<File>,
    failed: Option<(PathBuf, io::Error)>,
}

impl TensorBoard {
    /// Takes an event of a training.
    pub(crate) fn take(&mut self, event: &Event) {
        if self.failed.is_some() {
            return;
        }
        if let Event::Model { run_dir, .. } = event {
            match begin(Path::new(run_dir)) {
                Ok(file) => self.file = Some(file),
                Err(error) => self.failed = Some((PathBuf::from(run_dir), error)),
            }
            return;
        }
        let (Some(file), Some((step, scalars))) = (&mut self.file, scalars(event)) else { return };
        if let Err(error) = file.write_all(&record(&event_with(step, &scalars, now()))) {
            self.failed = Some((PathBuf::from("the event file"), error));
        }
    }

    /// What went wrong, if anything did.
    pub(crate) fn finish(self) -> Option<String> {
        let (path, error) = self.failed?;
        let path = path.display();
        Some(format!(
            "events for TensorBoard are missing ({path}: {error}); results.csv has the same numbers"
        ))
    }
}

/// A new file in the folder of a run; a run that is taken up again gets a further one, which TensorBoard reads as well.
fn begin(run: &Path) -> io::Result<File> {
    let seconds = now() as u64;
    for number in 0..MAX_FILES {
        let path = run.join(format!("events.out.tfevents.{seconds}.ocelli.{number}"));
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(mut file) => {
                let mut event = Vec::new();
                field(&mut event, 1, EIGHT, &now().to_le_bytes());
                field(&mut event, 3, BYTES, b"brain.Event:2");
                file.write_all(&record(&event))?;
                return Ok(file);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// The step that an event is of, and its numbers by name.
fn scalars(event: &Event) -> Option<(i64, Vec<(&'static str, f32)>)> {
    match *event {
        Event::Step { epoch, step, steps, loss, images_per_second, .. } => {
            let before = i64::from(epoch.saturating_sub(1)) * steps as i64;
            let scalars = vec![("step/loss", loss), ("step/images_per_second", images_per_second)];
            Some((before + step as i64, scalars))
        }
        Event::Epoch {
            epoch,
            lr,
            train_loss,
            train_accuracy,
            val_loss,
            val_accuracy,
            val_map,
            images_per_second,
            ..
        } => {
            let mut scalars = vec![
                ("loss/train", train_loss),
                ("accuracy/train", train_accuracy),
                ("learning_rate", lr),
                ("images_per_second", images_per_second),
            ];
            let held_out = [
                ("loss/validation", val_loss),
                ("accuracy/validation", val_accuracy),
                ("mean_average_precision/validation", val_map),
            ];
            scalars.extend(held_out.into_iter().filter_map(|(name, value)| Some((name, value?))));
            Some((epoch.into(), scalars))
        }
        _ => None,
    }
}

/// An event of some scalars.
fn event_with(step: i64, scalars: &[(&str, f32)], time: f64) -> Vec<u8> {
    let mut summary = Vec::new();
    for (name, value) in scalars {
        let mut scalar = Vec::new();
        field(&mut scalar, 1, BYTES, name.as_bytes());
        field(&mut scalar, 2, FOUR, &value.to_le_bytes());
        field(&mut summary, 1, BYTES, &scalar);
    }
    let mut event = Vec::new();
    field(&mut event, 1, EIGHT, &time.to_le_bytes());
    field(&mut event, 2, VARINT, &varint(step as u64));
    field(&mut event, 5, BYTES, &summary);
    event
}

/// Appends a field of a protocol buffer.
fn field(out: &mut Vec<u8>, number: u8, kind: u8, value: &[u8]) {
    out.push(number << 3 | kind);
    if kind == BYTES {
        out.extend(varint(value.len() as u64));
    }
    out.extend_from_slice(value);
}

/// Seven bits a byte, the lowest first; all but the last have the highest bit set.
fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A record of a file.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

fn masked(data: &[u8]) -> [u8; 4] {
    CRC.checksum(data).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_specification() {
        // RFC 3720, section B.4: 32 bytes of zeros.
        assert_eq!(CRC.checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(&[0; 32]), 0x8a91_36aau32.rotate_right(15).wrapping_add(MASK).to_le_bytes());
    }

    #[test]
    fn varints_have_seven_bits_a_byte() {
        for (value, bytes) in [(0, vec![0]), (127, vec![127]), (128, vec![128, 1]), (300, vec![172, 2])] {
            assert_eq!(varint(value), bytes, "{value}");
        }
        assert_eq!(varint(u64::MAX).len(), 10);
    }

    #[test]
    fn a_scalar_is_an_event_byte_by_byte() {
        let event = event_with(3, &[("a", 1.0)], 2.0);
        let summary = [0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0x80, 0x3f];
        let expected = [&[0x09][..], &2f64.to_le_bytes(), &[0x10, 3, 0x2a, 10], &summary].concat();
        assert_eq!(event, expected);
        let record = record(&event);
        assert_eq!(record.len(), event.len() + 16);
        assert_eq!(record[..8], (event.len() as u64).to_le_bytes());
    }

    #[test]
    fn a_run_that_is_taken_up_gets_a_further_file() {
        let folder = tempfile::tempdir().unwrap();
        let model = Event::Model {
            name: "n".to_owned(),
            parameters: 1,
            run_dir: folder.path().display().to_string(),
        };
        for expected in 1..=3 {
            let mut board = TensorBoard::default();
            board.take(&model);
            assert_eq!(board.finish(), None);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), expected);
        }
        let gone =
            Event::Model { name: "n".to_owned(), parameters: 1, run_dir: "/nowhere/at/all".to_owned() };
        let mut board = TensorBoard::default();
        board.take(&gone);
        assert!(board.finish().is_some());
    }
}
