//! How long an upload takes beside the bare writing of its files. Figures are printed and nothing is asserted of them; with
//! `OCELLI_TEST_SPEED` set to a folder on the disk that counts.

use std::fs;
use std::time::Instant;

use super::{png, upload};
use crate::store::Store;
use crate::store::disk::sync;
use ocelli_testing::hostile::zips::{Part, zip};

#[test]
fn an_upload_beside_the_bare_writing_of_its_files() {
    let Some(dir) = std::env::var_os("OCELLI_TEST_SPEED") else {
        println!("SKIPPED: OCELLI_TEST_SPEED names no folder");
        return;
    };
    let images: Vec<Vec<u8>> = (0..4500_u32).map(|i| png(32, 32, &i.to_le_bytes())).collect();
    let parts = images.iter().enumerate().map(|(i, data)| Part::file(format!("{}/{i}.png", i % 10), data));
    let archive = zip(&parts.collect::<Vec<_>>());
    for _ in 0..3 {
        let dir = tempfile::tempdir_in(&dir).unwrap();
        let raw = dir.path().join("raw");
        fs::create_dir(&raw).unwrap();
        let start = Instant::now();
        for (at, image) in images.iter().enumerate() {
            fs::write(raw.join(at.to_string()), image).unwrap();
        }
        let written = start.elapsed();
        sync(&raw, &[]).unwrap();
        let bare = start.elapsed();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let start = Instant::now();
        let report = upload(&store, "x", &archive).unwrap();
        let took = start.elapsed();
        assert_eq!(report.accepted, 4500);
        let start = Instant::now();
        upload(&store, "x", &archive).unwrap();
        println!(
            "bare {bare:?} (writing {written:?}), upload {took:?}: {:.2} times; again {:?}",
            took.as_secs_f64() / bare.as_secs_f64(),
            start.elapsed()
        );
    }
}
