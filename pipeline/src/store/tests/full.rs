//! A disk without room: nothing half-done, and it goes on when there is room.

use crate::store::JobChange;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{archive, assert_sound, by, end_job, ids, job, name, upload};
use crate::store::{Store, StoreError};
use ocelli_engine::Pool;

/// A small disk, where the system lets us mount one.
struct Disk {
    path: PathBuf,
    _keep: tempfile::TempDir,
}

impl Disk {
    fn mount() -> Option<Disk> {
        let keep = tempfile::tempdir().unwrap();
        let path = keep.path().join("disk");
        fs::create_dir(&path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "none"]).arg(&path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Disk { path, _keep: keep });
        }
        println!("SKIPPED: no disk can be mounted here");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn is_full(error: &StoreError) -> bool {
    match error {
        StoreError::Full { .. } => true,
        StoreError::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
        StoreError::Pipeline(error) => error.to_string().contains("models/m"),
        _ => false,
    }
}

/// As [`super::upload`], from an archive that lies on another disk.
fn upload_from_elsewhere(store: &Store, bytes: &[u8]) -> Result<(), StoreError> {
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(path.path(), bytes).unwrap();
    let go = std::sync::atomic::AtomicBool::new(false);
    let limits = ocelli_datasets::UploadLimits::default();
    store
        .datasets()
        .import_zip(&name("x"), path.path(), (&limits, &Pool::shared(2).unwrap()), &go, &by())
        .map(drop)
}

/// Fills the disk but for so many bytes.
fn fill(disk: &Path, left: u64) {
    let filler = disk.join("filler");
    let _ = fs::remove_file(&filler);
    let room = rustix::fs::statvfs(disk).map(|found| found.f_bavail * found.f_frsize).unwrap();
    fs::write(&filler, vec![1; room.saturating_sub(left) as usize]).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_without_room_costs_nothing_that_is_there() {
    let Some(disk) = Disk::mount() else { return };
    let dir = disk.path.join("data");
    let store = Store::open(&dir).unwrap();
    upload(&store, "x", &archive(1, 20)).unwrap();
    let id = job(&store, "x");
    let mut refused = 0;
    for left in (0..80).map(|step| step * 4096) {
        let before = (super::files(&dir), ids(&store, "x"), store.audit().page(None, 1000).unwrap().len());
        fill(&disk.path, left);
        let outcomes = [
            upload_from_elsewhere(&store, &archive(2, 20)),
            store.datasets().add_image(&name("x"), "a", &super::png(9, 9, b"one"), &by()).map(drop),
            store
                .feedback()
                .add(&super::png(9, 9, b"f"), &Default::default(), store.datasets(), &by())
                .map(drop),
            store
                .versions(&name("m"))
                .and_then(|all| all.add(&super::model(0), &Default::default()))
                .map(drop),
            store
                .jobs()
                .create(&name("m"), &name("x"), &by(), |_| JobChange {
                    record: "y".repeat(50_000),
                    ..JobChange::default()
                })
                .map(drop),
        ];
        let _ = fs::remove_file(disk.path.join("filler"));
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(is_full(error), "{left}: {error:?}");
            refused += 1;
        }
        if outcomes.iter().all(Result::is_err) {
            let after = (super::files(&dir), ids(&store, "x"), store.audit().page(None, 1000).unwrap().len());
            assert!(after == before, "{left}");
        }
        assert_sound(&dir);
        if outcomes.iter().all(Result::is_ok) {
            break;
        }
        for open in store.jobs().all().unwrap().iter().filter(|open| !open.ended && open.id != id) {
            end_job(&store, open.id);
        }
        // Back to where it was, if something had room.
        for image in ids(&store, "x").difference(&before.1) {
            store.datasets().delete_image(&name("x"), image, &by()).unwrap();
        }
        for entry in store.feedback().page(0, 9).unwrap().feedback {
            store.feedback().reject(&entry.id, &by()).unwrap();
        }
    }
    assert!(refused > 5, "{refused}");
    // There is room again: it goes on.
    upload(&store, "x", &archive(2, 20)).unwrap();
    end_job(&store, id);
    drop(store);
    let store = Store::open(&dir).unwrap();
    assert_eq!(ids(&store, "x").len() / 20, 2);
    assert_sound(&dir);
}
