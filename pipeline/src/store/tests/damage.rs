//! Damage to image files costs just the images that it hits.

use crate::store::JobChange;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{archive, by, check_clean, end_job, ids, image_file, job, name, splits, store, upload};
use crate::store::{Store, StoreError, check};

pub(super) fn cut(path: &Path) {
    let length = fs::metadata(path).unwrap().len();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
}

/// As many bytes of other content.
pub(super) fn noise(path: &Path) {
    let length = fs::metadata(path).unwrap().len() as usize;
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    fs::write(path, (0..length).map(|_| next()).collect::<Vec<u8>>()).unwrap();
}

/// A folder with something in it.
pub(super) fn folder(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
    fs::write(path.join("inside"), "x").unwrap();
}

/// Nothing lies there.
pub(super) fn clear(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

type Harm = (&'static str, fn(&Path), &'static str);

const HARMS: [Harm; 8] = [
    ("deleted", |path| fs::remove_file(path).unwrap(), "missing"),
    ("emptied", |path| fs::write(path, "").unwrap(), "0 bytes in place of"),
    ("cut", cut, "bytes in place of"),
    ("noise", noise, "another one"),
    ("a folder", folder, "in its place"),
    (
        "an empty folder",
        |path| {
            clear(path);
            fs::create_dir(path).unwrap()
        },
        "in its place",
    ),
    (
        "a dangling link",
        |path| {
            clear(path);
            std::os::unix::fs::symlink("nowhere", path).unwrap()
        },
        "missing",
    ),
    ("its folder", |path| fs::remove_dir_all(path.parent().unwrap()).unwrap(), "missing"),
];

#[test]
fn damage_to_an_image_costs_that_image() {
    for (story, harm, says) in HARMS {
        for restart in [true, false] {
            let (keep, mut store) = store();
            upload(&store, "pets", &archive(1, 10)).unwrap();
            upload(&store, "others", &archive(1, 10)).unwrap();
            let before = splits(&store, "pets");
            let bad = before[3].0.clone();
            let file = image_file(keep.path(), &bad);
            if restart {
                drop(store);
                harm(&file);
                store = Store::open(keep.path()).unwrap();
            } else {
                harm(&file);
            }
            let told = store.notes().iter().any(|note| note.contains(&bad));
            assert_eq!(told, restart, "{story}: {:?}", store.notes());
            let found = check(keep.path()).unwrap().problems;
            let named = found.iter().any(|p| p.path.starts_with(&format!("images/{}/{bad}.png", &bad[..2])));
            assert!(named, "{story}: {found:?}");

            let id = store.jobs().create(&name("m"), &name("pets"), &by(), |_| JobChange::default()).unwrap();
            let data = store.jobs().data(id, &name("pets")).unwrap();
            assert_eq!(data.trained_on.len() + data.held_out.len(), 9, "{story}");
            assert!(data.left_out.len() == 1 && data.left_out[0].contains(&bad), "{story}");
            assert!(data.left_out[0].contains(says), "{story}: {:?}", data.left_out);
            assert!(!fs::read_to_string(&data.table).unwrap().contains(&bad), "{story}");
            let page = store.datasets().images(&name("pets"), None, 0, 99).unwrap();
            let listed: Vec<_> = page.images.iter().filter(|image| image.damaged.is_some()).collect();
            assert!(listed.len() == 1 && listed[0].id == bad, "{story}");
            for set in store.datasets().list().unwrap() {
                assert_eq!((set.images, set.damaged), (10, 1), "{story}");
            }
            let read = store.datasets().image(&name("pets"), &bad);
            assert!(matches!(read, Err(StoreError::Damaged { .. })), "{story}: {read:?}");

            let again = upload(&store, "pets", &archive(1, 10)).unwrap();
            assert_eq!((again.accepted, again.duplicates, again.restored), (0, 10, 1), "{story}");
            assert_eq!(splits(&store, "pets"), before, "{story}");
            assert!(store.datasets().list().unwrap().iter().all(|set| set.damaged == 0), "{story}");
            assert!(store.datasets().image(&name("others"), &bad).is_ok(), "{story}");
            let data = store.jobs().data(id, &name("pets")).unwrap();
            assert!(data.left_out.is_empty(), "{story}: {:?}", data.left_out);
            end_job(&store, id);
            drop(store);
            let store = Store::open(keep.path()).unwrap();
            assert!(store.notes().is_empty(), "{story}: {:?}", store.notes());
            super::assert_sound(keep.path());
        }
    }
}

#[test]
fn a_damaged_image_comes_back_through_every_door() {
    let image = |i: u8| super::png(4, 4, &[1, i]);
    for (story, harm, _) in HARMS {
        let (keep, store) = store();
        upload(&store, "pets", &archive(1, 6)).unwrap();
        let id = |i| crate::store::image::Id::of(&image(i)).to_string();
        harm(&image_file(keep.path(), &id(0)));
        let added = store.datasets().add_image(&name("pets"), "a", &image(0), &by()).unwrap();
        assert!(added.duplicate, "{story}");
        store.datasets().image(&name("pets"), &id(0)).unwrap();
        harm(&image_file(keep.path(), &id(1)));
        store.feedback().add(&image(1), &Default::default(), store.datasets(), &by()).unwrap();
        store.datasets().image(&name("pets"), &id(1)).unwrap();
        // A data set that does not have it yet.
        harm(&image_file(keep.path(), &id(2)));
        upload(&store, "new", &archive(1, 6)).unwrap();
        store.datasets().image(&name("pets"), &id(2)).unwrap();
        // The file itself.
        let file = image_file(keep.path(), &id(3));
        harm(&file);
        assert!(store.datasets().image(&name("pets"), &id(3)).is_err(), "{story}");
        clear(&file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, image(3)).unwrap();
        store.datasets().image(&name("pets"), &id(3)).unwrap();
        let set = &store.datasets().list().unwrap()[1];
        assert_eq!((set.images, set.damaged), (6, 0), "{story}");
        // A damaged image can be deleted, and the start after it has nothing to say.
        harm(&image_file(keep.path(), &id(4)));
        for set in ["new", "pets"] {
            store.datasets().delete_image(&name(set), &id(4), &by()).unwrap();
        }
        drop(store);
        let store = Store::open(keep.path()).unwrap();
        assert_eq!(ids(&store, "pets").len(), 5, "{story}");
        super::assert_sound(keep.path());
    }
}

#[test]
fn all_of_images_may_be_lost_and_sent_again() {
    type Whole = (&'static str, fn(&Path));
    let harms: [Whole; 4] = [
        ("gone", |path| fs::remove_dir_all(path).unwrap()),
        ("a file", |path| {
            fs::remove_dir_all(path).unwrap();
            fs::write(path, "x").unwrap()
        }),
        ("a link to nothing", |path| {
            fs::remove_dir_all(path).unwrap();
            std::os::unix::fs::symlink("nowhere", path).unwrap()
        }),
        ("files in place of folders", |path| {
            for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
                fs::remove_dir_all(&entry).unwrap();
                fs::write(entry, "x").unwrap();
            }
        }),
    ];
    for (story, harm) in harms {
        for restart in [true, false] {
            let (keep, mut store) = store();
            upload(&store, "pets", &archive(1, 10)).unwrap();
            let before = splits(&store, "pets");
            let run = |store: Store| {
                drop(store);
                harm(&keep.path().join("images"));
                Store::open(keep.path()).unwrap()
            };
            if restart {
                store = run(store);
                assert_eq!(store.datasets().list().unwrap()[0].damaged, 10, "{story}");
            } else {
                harm(&keep.path().join("images"));
            }
            let again = upload(&store, "pets", &archive(1, 10)).unwrap();
            assert_eq!((again.accepted, again.restored), (0, 10), "{story}");
            assert_eq!(splits(&store, "pets"), before, "{story}");
            super::assert_sound(keep.path());
        }
    }
}

/// Whose folder cannot be read just now is neither damaged nor put aside. A loop of links stands for an error of the disk,
/// which root meets, too.
#[test]
fn what_cannot_be_read_just_now_is_not_damaged() {
    let (keep, store) = store();
    upload(&store, "pets", &archive(1, 40)).unwrap();
    let usage = store.usage().images;
    let id = ids(&store, "pets").into_iter().next().unwrap();
    let folder = image_file(keep.path(), &id).parent().unwrap().to_owned();
    drop(store);
    let aside = keep.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    std::os::unix::fs::symlink(folder.file_name().unwrap(), &folder).unwrap();
    let store = Store::open(keep.path()).unwrap();
    assert_eq!(store.datasets().list().unwrap()[0].damaged, 0);
    assert!(store.notes().iter().any(|note| note.contains("cannot be read")), "{:?}", store.notes());
    assert!(!keep.path().join("quarantine").exists());
    assert!(matches!(store.datasets().image(&name("pets"), &id), Err(StoreError::Io { .. })));
    let job = job(&store, "pets");
    let data = store.jobs().data(job, &name("pets")).unwrap();
    assert!(data.left_out.iter().all(|note| note.contains("cannot be read")), "{:?}", data.left_out);
    assert_eq!(store.datasets().list().unwrap()[0].damaged, 0);
    let found = check(keep.path()).unwrap().problems;
    assert!(found.iter().any(|problem| problem.path.contains(&id)), "{found:?}");
    drop(store);
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    let store = Store::open(keep.path()).unwrap();
    assert!(store.notes().is_empty());
    assert_eq!(store.usage().images, usage);
    let data = store.jobs().data(job, &name("pets")).unwrap();
    assert_eq!((data.trained_on.len() + data.held_out.len(), data.left_out.len()), (40, 0));
    end_job(&store, job);
    check_clean(&store);
}

/// The environment variable that names the folder of the next test.
const STRANGER: &str = "OCELLI_TEST_OPEN_AS_STRANGER";

/// Not a test of its own: opens a folder as a user who may not read all of it.
#[test]
fn stranger() {
    let Some(dir) = std::env::var_os(STRANGER) else { return };
    match Store::open(Path::new(&dir)) {
        Ok(store) => {
            let damaged: usize = store.datasets().list().unwrap().iter().map(|set| set.damaged).sum();
            println!("opened, {damaged} damaged, {} notes", store.notes().len());
        }
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
#[cfg(target_os = "linux")]
fn rights_that_are_missing_damage_nothing() {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    // As root nothing is forbidden: another user looks then.
    const NOBODY: u32 = 65534;
    let root = fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    for mode in [0o000, 0o100, 0o400] {
        let (keep, store) = store();
        upload(&store, "pets", &archive(1, 40)).unwrap();
        let all: BTreeSet<String> = super::paths(keep.path()).into_iter().collect();
        drop(store);
        let mut paths = vec![keep.path().to_owned()];
        while let Some(path) = paths.pop() {
            if root {
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            if path.is_dir() {
                paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        let images = keep.path().join("images");
        let closed: Vec<_> = fs::read_dir(&images).unwrap().map(|e| e.unwrap().path()).take(3).collect();
        let chmod = |mode: u32| {
            closed.iter().for_each(|p| fs::set_permissions(p, fs::Permissions::from_mode(mode)).unwrap());
        };
        chmod(mode);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "store::tests::damage::stranger", "--nocapture"]).env(STRANGER, keep.path());
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let Ok(output) = command.output() else {
            println!("SKIPPED: another user may not run the test's program");
            return;
        };
        chmod(0o755);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("opened, 0 damaged, "), "{mode:o}: {text}");
        assert!(mode == 0o100 || !text.contains(" 0 notes"), "{mode:o}: {text}");
        let store = Store::open(keep.path()).unwrap();
        assert_eq!(super::paths(keep.path()).into_iter().collect::<BTreeSet<_>>(), all, "{mode:o}");
        assert!(store.notes().is_empty());
    }
}
