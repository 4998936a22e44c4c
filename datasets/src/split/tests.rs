//! The division itself, on made-up hashes.

use super::*;
use crate::rng::Rng;

fn hash(n: u64) -> ContentHash {
    Sha256::digest(n.to_le_bytes()).into()
}

fn run(items: &[(u32, Option<Split>, u64)], val: f32, test: f32, seed: u64) -> Vec<Split> {
    let hashes: Vec<ContentHash> = items.iter().map(|item| hash(item.2)).collect();
    let candidates: Vec<Candidate> = items
        .iter()
        .zip(&hashes)
        .map(|(&(class, declared, _), hash)| Candidate { class, declared, hash })
        .collect();
    divide(&candidates, SplitFractions { val, test }, seed)
}

#[test]
fn what_is_declared_stays() {
    use Split::{Test, Train, Val};
    let many = |declared: &[Option<Split>]| -> Vec<(u32, Option<Split>, u64)> {
        (0..400).map(|i| (i as u32 % 4, declared[i as usize % declared.len()], i)).collect()
    };
    let count = |splits: &[Split], of| splits.iter().filter(|&&s| s == of).count();

    let items = many(&[Some(Train), Some(Test)]);
    let splits = run(&items, 0.2, 0.5, 1);
    assert!(items.iter().zip(&splits).all(|(item, &s)| (item.1 == Some(Test)) == (s == Test)));
    assert!((20..60).contains(&count(&splits, Val)));

    let items = many(&[Some(Train), Some(Val)]);
    let splits = run(&items, 0.2, 0.5, 1);
    assert!(items.iter().zip(&splits).all(|(item, &s)| item.1 == Some(s)));

    let items = many(&[None, Some(Val), Some(Test)]);
    let splits = run(&items, 0.2, 0.5, 1);
    assert!(items.iter().zip(&splits).all(|(item, &s)| item.1.unwrap_or(Train) == s));

    for declared in [[None], [Some(Train)]] {
        let splits = run(&many(&declared), 0.25, 0.25, 1);
        assert!((60..140).contains(&count(&splits, Val)) && (60..140).contains(&count(&splits, Test)));
    }
    assert!(run(&many(&[None]), 0.0, 0.0, 1).iter().all(|&s| s == Train));
}

#[test]
fn small_classes_are_in_every_split_and_always_in_training() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut items = Vec::new();
        let sizes: Vec<u64> = (0..6).map(|_| 1 + rng.below(6)).collect();
        for (class, &size) in (0..).zip(&sizes) {
            items.extend((0..size).map(|_| (class, None, rng.next_u64())));
        }
        let splits = run(&items, 0.1, 0.1, seed);
        for (class, &size) in (0..).zip(&sizes) {
            let count = |wanted| {
                items.iter().zip(&splits).filter(|(item, s)| item.0 == class && **s == wanted).count()
            };
            assert!(count(Split::Train) >= 1, "class {class} of {size}, seed {seed}");
            if size >= 3 {
                assert!(
                    count(Split::Val) >= 1 && count(Split::Test) >= 1,
                    "class {class} of {size}, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn copies_stay_together_even_across_classes_and_when_moved() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let items: Vec<(u32, Option<Split>, u64)> =
            (0..30).map(|_| (rng.below(4) as u32, None, rng.below(12))).collect();
        let splits = run(&items, 0.2, 0.2, seed);
        for (a, s) in items.iter().zip(&splits) {
            for (b, t) in items.iter().zip(&splits) {
                assert!(a.2 != b.2 || s == t, "seed {seed}: content {} in {s} and {t}", a.2);
            }
        }
        for class in 0..4 {
            let mut own = items.iter().zip(&splits).filter(|(item, _)| item.0 == class).peekable();
            assert!(own.peek().is_none() || own.any(|(_, &s)| s == Split::Train), "seed {seed}");
        }
    }
}

/// Images of a class in a part.
fn count_of(items: &[(u32, Option<Split>, u64)], splits: &[Split], class: u32, part: Split) -> usize {
    items.iter().zip(splits).filter(|(item, s)| item.0 == class && **s == part).count()
}

#[test]
fn parts_of_small_classes_are_within_one_image_of_their_share() {
    let fractions = [(0.1, 0.1), (0.2, 0.2), (0.3, 0.0), (0.0, 0.1), (0.05, 0.3), (0.7, 0.29), (0.45, 0.45)];
    let mut number = 0;
    for (val, test) in fractions {
        for seed in 0..10 {
            let mut items = Vec::new();
            for n in 1..=60 {
                items.extend((0..n).map(|i| (n, None, number + u64::from(i))));
                number += u64::from(n);
            }
            let splits = run(&items, val, test, seed);
            for n in 1..=60 {
                let count = |part| count_of(&items, &splits, n, part);
                assert!(count(Split::Train) > 0, "{n} images, seed {seed}");
                for (part, fraction) in [(Split::Val, val), (Split::Test, test)] {
                    let (count, share) = (count(part), f64::from(n) * f64::from(fraction));
                    let slack = SLACK * f64::from(fraction) * (f64::from(n) - SMALL_CLASS).max(0.0);
                    let off = (count as f64 - share).abs();
                    // Three or four images can be short of one for each part, whatever the fractions.
                    let full = n < 5 && val + test > 0.6;
                    assert!(
                        full || off <= 1.0 + slack + 1e-5,
                        "{count} of {n} in {part} at {fraction}, seed {seed}"
                    );
                    assert!(n < 3 || fraction == 0.0 || count > 0, "{n} images, none in {part}, seed {seed}");
                    assert!(fraction > 0.0 || count == 0, "{part} is not wanted");
                }
            }
        }
    }
}

#[test]
fn a_validation_part_that_is_taken_out_of_declared_training_images_is_even_too() {
    for seed in 0..20 {
        let mut items = Vec::new();
        for class in 0..10u32 {
            let image = |i: u64| seed * 10_000 + u64::from(class) * 100 + i;
            items.extend((0..20).map(|i| (class, Some(Split::Train), image(i))));
            items.extend((20..30).map(|i| (class, Some(Split::Test), image(i))));
        }
        let splits = run(&items, 0.2, 0.5, seed);
        for class in 0..10 {
            assert_eq!(count_of(&items, &splits, class, Split::Test), 10);
            assert!((3..=5).contains(&count_of(&items, &splits, class, Split::Val)), "seed {seed}");
        }
    }
}

#[test]
fn a_file_that_is_added_moves_at_most_three_others() {
    for (val, test) in [(0.1f32, 0.1f32), (0.2, 0.2), (0.1, 0.3)] {
        let (mut moved, mut added) = (0, 0);
        for seed in 0..10 {
            let mut items: Vec<(u32, Option<Split>, u64)> = Vec::new();
            let mut before = Vec::new();
            for i in 0..120 {
                items.push((0, None, 1000 * seed + i));
                let after = run(&items, val, test, seed);
                let moves = before.iter().zip(&after).filter(|(a, b)| a != b).count();
                assert!(moves <= 3, "{moves} moved by image {i}, seed {seed}");
                (moved, added) = (moved + moves, added + 1);
                before = after;
            }
        }
        println!("{val} and {test}: {moved} of all images moved while {added} were added");
        assert!(2 * moved < added, "{moved} moved by {added}");
    }
}

#[test]
fn copies_count_and_one_content_with_many_is_left_for_training() {
    for seed in 0..100 {
        // Nine images alone and one eleven times: 20 in all, 2 to 4 for each part.
        let items: Vec<(u32, Option<Split>, u64)> =
            (0..20).map(|i| (0, None, 100 * seed + i.min(9))).chain((0..5).map(|i| (1, None, i))).collect();
        let splits = run(&items, 0.15, 0.15, seed);
        for part in [Split::Val, Split::Test] {
            assert!((2..=4).contains(&count_of(&items, &splits, 0, part)), "seed {seed}");
        }
    }
    // Where every content has many copies, a part that is too large is better than an empty one.
    let items: Vec<_> = (0..40).map(|i| (0, None, i / 10)).collect();
    for seed in 0..20 {
        let splits = run(&items, 0.1, 0.1, seed);
        let counts = [Split::Train, Split::Val, Split::Test].map(|part| count_of(&items, &splits, 0, part));
        assert_eq!(counts, [20, 10, 10], "seed {seed}");
    }
}

#[test]
fn neither_order_nor_other_classes_move_an_image() {
    for n in [10, 40, 200, 2000] {
        let items: Vec<(u32, Option<Split>, u64)> = (0..n).map(|i| (i as u32 % 2, None, i)).collect();
        let splits = run(&items, 0.1, 0.1, 3);
        let reversed: Vec<_> = items.iter().rev().copied().collect();
        assert!(run(&reversed, 0.1, 0.1, 3).iter().rev().eq(&splits));
        let others = (n..2 * n).map(|i| (2 + i as u32 % 3, None, i));
        let more: Vec<_> = items.iter().copied().chain(others).collect();
        assert_eq!(run(&more, 0.1, 0.1, 3)[..items.len()], splits);
    }
}

#[test]
fn in_large_classes_the_hash_decides_alone() {
    let items: Vec<(u32, Option<Split>, u64)> = (0..10_000).map(|i| (i as u32 % 2, None, i)).collect();
    let splits = run(&items, 0.1, 0.1, 3);
    for (item, split) in items.iter().zip(&splits) {
        let key = hash_key(3, &hash(item.2));
        assert_eq!(*split == Split::Test, key < threshold(f64::from(0.1f32)));
    }
    let more: Vec<_> =
        items.iter().copied().chain((10_000..20_000).map(|i| (i as u32 % 2, None, i))).collect();
    assert_eq!(run(&more, 0.1, 0.1, 3)[..items.len()], splits);
}

#[test]
fn a_larger_fraction_only_adds() {
    let items: Vec<(u32, Option<Split>, u64)> = (0..500).map(|i| (0, None, i)).collect();
    let (small, large) = (run(&items, 0.0, 0.1, 5), run(&items, 0.0, 0.3, 5));
    assert!(small.iter().zip(&large).all(|(s, l)| *s != Split::Test || *l == Split::Test));
}
