//! Orders and small texts; layouts themselves are tested on real folders.

use super::*;

#[test]
fn digits_compare_as_numbers_and_the_order_is_total() {
    let sorted = ["", "0", "00", "1", "01", "2", "10", "a", "a1b", "a01b2", "a1b3", "a2", "a10", "b"];
    for (i, a) in sorted.iter().enumerate() {
        for (j, b) in sorted.iter().enumerate() {
            assert_eq!(natural_order(a, b), natural_order(b, a).reverse(), "{a} {b}");
            // Equal numbers with leading zeros only have to be told apart somehow.
            let twins = [("0", "00"), ("1", "01")].iter().any(|t| (*a, *b) == *t || (*b, *a) == *t);
            assert!(twins || natural_order(a, b) == i.cmp(&j), "{a:?} {b:?}");
        }
    }
    let long = "9".repeat(400);
    assert_eq!(natural_order(&long, &format!("1{long}")), Ordering::Less);
}

#[test]
fn lists_are_cut_and_counts_agree() {
    assert_eq!(some_of(&["a", "b"]), "a, b");
    assert_eq!(some_of(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
    assert_eq!((count(1, "file"), count(0, "file")), ("1 file".to_owned(), "0 files".to_owned()));
}

#[test]
fn files_are_told_by_extension_or_content() {
    let never = || -> Vec<u8> { panic!("the extension says enough") };
    assert_eq!(FileKind::of("a/b.JPeG", never), FileKind::Image);
    assert_eq!(FileKind::of("a.b/photo", || b"\xff\xd8\xff\xe0".to_vec()), FileKind::Image);
    assert_eq!(FileKind::of("photo.heic", || b"\0\0\0\x18ftypheic".to_vec()), FileKind::Undecoded("HEIC"));
    // Phones name JPEGs so after an edit.
    assert_eq!(FileKind::of("photo.heic", || b"\xff\xd8\xff\xe0".to_vec()), FileKind::Image);
    assert_eq!(FileKind::of("notes.txt", || b"hello".to_vec()), FileKind::Other);
}
