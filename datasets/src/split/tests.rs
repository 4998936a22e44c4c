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

#[test]
fn neither_order_nor_company_moves_an_image_of_a_large_class() {
    let items: Vec<(u32, Option<Split>, u64)> = (0..200).map(|i| (i as u32 % 2, None, i)).collect();
    let splits = run(&items, 0.1, 0.1, 3);
    let reversed: Vec<_> = items.iter().rev().copied().collect();
    assert!(run(&reversed, 0.1, 0.1, 3).iter().rev().eq(&splits));
    let more: Vec<_> = items.iter().copied().chain((200..900).map(|i| (i as u32 % 5, None, i))).collect();
    assert_eq!(run(&more, 0.1, 0.1, 3)[..200], splits);
}

#[test]
fn a_larger_fraction_only_adds() {
    let items: Vec<(u32, Option<Split>, u64)> = (0..500).map(|i| (0, None, i)).collect();
    let (small, large) = (run(&items, 0.0, 0.1, 5), run(&items, 0.0, 0.3, 5));
    assert!(small.iter().zip(&large).all(|(s, l)| *s != Split::Test || *l == Split::Test));
}
