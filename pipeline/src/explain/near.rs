//! Names that are nearest to one that is not there.

/// How many are named.
const SHOWN: usize = 5;
/// Characters of a name that are compared: names come from outside, and the time goes with the square.
const COMPARED: usize = 64;

/// The names that are most like `name`, whatever the case: those that hold it first, then by the number of characters that
/// would have to change (Levenshtein, 1966).
pub(super) fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted = letters(name);
    let whole: String = wanted.iter().collect();
    let rank = |other: &'a str| {
        let own = letters(other);
        let holds = !whole.is_empty() && own.iter().collect::<String>().contains(&whole);
        (!holds, distance(&wanted, &own), other)
    };
    let mut ranked: Vec<_> = among.map(rank).collect();
    ranked.sort();
    ranked.into_iter().take(SHOWN).map(|(_, _, name)| name.to_owned()).collect()
}

fn letters(name: &str) -> Vec<char> {
    name.chars().flat_map(char::to_lowercase).take(COMPARED).collect()
}

/// Characters to insert, remove or exchange between two names.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_changes() {
        let between = |a: &str, b: &str| distance(&letters(a), &letters(b));
        for (a, b, changes) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("Cat", "cat", 0), ("flaw", "lawn", 2)]
        {
            assert_eq!((between(a, b), between(b, a)), (changes, changes), "{a} {b}");
        }
    }

    #[test]
    fn names_that_hold_it_come_first_and_then_the_most_alike() {
        let names = ["tiger cat", "tabby", "tub", "Egyptian cat", "catamaran", "banana", "coat"];
        let found = nearest("cat", names.into_iter());
        assert_eq!(found, ["catamaran", "tiger cat", "Egyptian cat", "coat", "tub"]);
        assert_eq!(nearest("tabi", names.into_iter())[0], "tabby");
        assert_eq!(nearest("", ["b", "a"].into_iter()), ["a", "b"]);
        let long = "x".repeat(10_000);
        assert_eq!(nearest(&long, std::iter::once(long.as_str())).len(), 1);
    }
}
