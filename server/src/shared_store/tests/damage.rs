//! Objects that are cut off, changed, missing or of somebody else: refused, and what serves stays.

use std::fs;

use crate::shared_store::local::LocalModels;
use crate::shared_store::pointer::{Pointer, Stored, hex};
use crate::shared_store::publish::is_model;

use super::support::*;

/// A store with a pointer, by a writer that is no more.
async fn published() -> Shared {
    let shared = Shared::new();
    let writer = shared.service();
    writer.add_file(&versions()[0]);
    writer.label(&stable(&versions()[0]));
    shared.publisher(&writer).0.look().await;
    shared
}

#[tokio::test]
async fn no_pointer_that_was_cut_off_or_changed_is_read() {
    let shared = published().await;
    let bytes = fs::read(shared.pointer(1)).unwrap();
    let read = |bytes: &[u8]| Pointer::decode(bytes, &name(), 1);
    let whole = read(&bytes).unwrap();
    assert_eq!(whole.encode(), bytes);
    for end in 0..bytes.len() {
        read(&bytes[..end]).expect_err("cut off");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            read(&changed).expect_err("changed");
        }
        let mut changed = bytes.clone();
        changed.insert(at, b' ');
        read(&changed).expect_err("longer");
    }
    assert!(Pointer::decode(&bytes, &name(), 2).unwrap_err().contains("number 1"));
    assert!(Pointer::decode(&bytes, &"n".parse().unwrap(), 1).unwrap_err().contains("another model"));
    // A newer program's, and ones with a right hash and wrong words.
    for (from, to, reason) in [
        ("\"format\":1", "\"format\":2", "update the program"),
        ("\"shadow\":null", "\"shadow\":\"0123456789ab\"", "differ"),
        ("\"canary\":null", "\"canary\":{\"version\":\"0123456789ab\",\"share\":0}", "1 to 99"),
        ("\"host\":\"here\"", "\"host\":\"<b>\\n\"", "no writer"),
        ("\"bytes\":", "\"bytes\":0,\"more\":", "unknown field"),
        ("\"number\":1", "\"number\":-1", "not a pointer"),
    ] {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let (_, inner) = text.trim_end().strip_suffix('}').unwrap().split_once("\"pointer\":").unwrap();
        let inner = inner.replace(from, to);
        let hash = {
            use sha2::{Digest, Sha256};
            hex(&Sha256::digest(inner.as_bytes()))
        };
        let text = format!("{{\"sha256\":\"{hash}\",\"pointer\":{inner}}}\n");
        let refused = read(text.as_bytes()).unwrap_err();
        assert!(refused.contains(reason), "{to}: {refused}");
    }
}

#[tokio::test]
async fn no_model_that_was_cut_off_or_changed_is_taken() {
    let file = &versions()[0];
    let bytes = file.to_bytes().unwrap();
    let stored = Stored { sha256: hex(&file.content_hash().unwrap()), bytes: bytes.len() as u64 };
    assert!(is_model(&bytes, &stored));
    // The hash is of all bytes: samples show that it is compared.
    for at in (0..bytes.len()).step_by(1 + bytes.len() / 300) {
        assert!(!is_model(&bytes[..at], &stored), "cut off at {at}");
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(!is_model(&changed, &stored), "changed at {at}");
    }
    for at in bytes.len() - 40..bytes.len() {
        assert!(!is_model(&bytes[..at], &stored), "cut off at {at}");
    }
    assert!(!is_model(&[bytes.as_slice(), b"x"].concat(), &stored));
}

/// What a replica makes of a store: the pointer in force, and how often it refused something.
async fn look(shared: &Shared, replica: &std::sync::Arc<Service>) -> (Option<u64>, Option<String>) {
    let (mut follower, status) = shared.follower(replica);
    follower.look().await;
    let model = status.get().models.get("m").cloned().unwrap_or_default();
    (model.pointer, model.problem.map(|problem| problem.reason))
}

#[tokio::test]
async fn damage_to_the_newest_leaves_what_serves() {
    let shared = Shared::new();
    let writer = shared.service();
    let [a, b, c] = versions();
    for file in [&a, &b] {
        writer.add_file(file);
        writer.label(&stable(file));
        shared.publisher(&writer).0.look().await;
    }
    let replica = shared.service();
    assert_eq!(look(&shared, &replica).await, (Some(2), None));

    // A third version, with damage of every kind.
    writer.add_file(&c);
    writer.label(&stable(&c));
    shared.publisher(&writer).0.look().await;
    let (pointer, model) = (shared.pointer(3), shared.model(&c));
    let (whole_pointer, whole_model) = (fs::read(&pointer).unwrap(), fs::read(&model).unwrap());
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        bytes
    };
    let other = fs::read(shared.model(&a)).unwrap();
    let damages = [
        ("empty pointer", Some(Vec::<u8>::new()), Some(whole_model.clone())),
        ("half a pointer", Some(half(&whole_pointer)), Some(whole_model.clone())),
        ("a changed pointer", Some(flipped(&whole_pointer)), Some(whole_model.clone())),
        ("a huge pointer", Some(vec![b' '; 1 << 20]), Some(whole_model.clone())),
        ("no model", Some(whole_pointer.clone()), None),
        ("half a model", Some(whole_pointer.clone()), Some(half(&whole_model))),
        ("a changed model", Some(whole_pointer.clone()), Some(flipped(&whole_model))),
        ("another model", Some(whole_pointer.clone()), Some(other)),
        ("an empty model", Some(whole_pointer.clone()), Some(Vec::new())),
    ];
    for (what, of_pointer, of_model) in damages {
        for (path, bytes) in [(&pointer, of_pointer), (&model, of_model)] {
            match bytes {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => drop(fs::remove_file(path)),
            }
        }
        let (in_force, problem) = look(&shared, &replica).await;
        assert!(in_force == Some(2) && problem.is_some_and(|p| p.contains("pointer 3 is refused")), "{what}");
        assert_eq!(replica.labels(&name()).unwrap(), stable(&b), "{what}");
        // One that begins now takes the newest that is whole.
        let (in_force, problem) = look(&shared, &shared.service()).await;
        assert!(in_force == Some(2) && problem.is_some(), "{what}");
    }
    assert_eq!((replica.adds(), replica.history().len()), (1, 1));
    fs::write(&pointer, &whole_pointer).unwrap();
    fs::write(&model, &whole_model).unwrap();
    assert_eq!(look(&shared, &replica).await, (Some(3), None));

    // Damage to the pointer in force takes no replica back, also after a restart.
    fs::write(&pointer, half(&whole_pointer)).unwrap();
    let (in_force, problem) = look(&shared, &replica).await;
    assert!(in_force == Some(3) && problem.is_some());
    assert_eq!(replica.labels(&name()).unwrap(), stable(&c));
}

#[tokio::test]
async fn a_model_that_does_not_give_its_answers_is_refused() {
    let shared = Shared::new();
    let writer = shared.service();
    let mut file = crate::tests::support::model_file();
    assert!(file.probes.is_some());
    file.training = None;
    // A weight that is another since the answers were given.
    let last = file.model.layout().entries().last().unwrap().offset;
    file.model.params_mut()[last] += 1.0;
    writer.add_file(&file);
    writer.label(&stable(&file));
    shared.publisher(&writer).0.look().await;
    let replica = shared.service();
    let (in_force, problem) = look(&shared, &replica).await;
    assert!(in_force.is_none() && replica.adds() == 0, "{in_force:?}");
    assert!(problem.is_some_and(|problem| problem.contains("pointer 1 is refused")));
}

#[tokio::test]
async fn a_writer_mends_what_it_names() {
    let shared = published().await;
    let [a, ..] = versions();
    let writer = shared.service();
    writer.add_file(&a);
    writer.label(&stable(&a));
    let whole = fs::read(shared.model(&a)).unwrap();
    let mut changed = whole.clone();
    changed[100] ^= 1;
    fs::write(shared.model(&a), &changed).unwrap();
    // What is no pointer has the next number.
    fs::write(shared.pointer(2), b"{}").unwrap();
    shared.publisher(&writer).0.look().await;
    assert_eq!(fs::read(shared.model(&a)).unwrap(), whole);
    assert_eq!(shared.numbers(), [1, 2, 3]);
    assert_eq!(look(&shared, &shared.service()).await, (Some(3), None));
}

#[tokio::test]
async fn files_of_other_kinds_in_the_store_are_passed_over() {
    let shared = published().await;
    for file in [
        "readme.txt",
        "models/notes",
        "models/m/pointers/2.json",
        "models/m/pointers/+0000000002.json",
        "models/m/pointers/00000000000.json",
        "models/m/pointers/99999999999.txt",
        "models/m/pointers/00000000009.json#1",
        "models/m/x.ocelli",
        "models/.hidden/pointers/00000000001.json",
        "models/m/pointers/deep/00000000007.json",
        "models/a b/pointers/00000000001.json",
    ] {
        let path = shared.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }
    assert_eq!(look(&shared, &shared.service()).await, (Some(1), None));
}
