//! Gray images whose pixels stand in a table as numbers from 0 to 255, row by row from the top left: all of them in one
//! column, with spaces between them (FER-2013), or one in a column (the tables of MNIST and its relatives).

use super::text::{Fault, Row};
use std::ops::Range;

/// Columns from which a table may have one for each pixel: 4 x 4 and a label.
const FEWEST_COLUMNS: usize = 17;

/// Fewest pixels in one column.
const FEWEST_PIXELS: usize = 16;

/// Rows that decide.
const LOOKED_AT: usize = 10;

/// Largest side.
const MAX_SIDE: usize = 1024;

/// Where the pixels of a row stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The first column with pixels.
    pub(super) first: usize,
    /// How many columns have some.
    count: usize,
    /// Images are this wide and high.
    pub(super) side: usize,
}

impl Place {
    pub(super) fn columns(&self) -> Range<usize> {
        self.first..self.first + self.count
    }

    /// Whether a row has its pixels there.
    pub(super) fn holds(&self, row: &Row) -> bool {
        self.read(row, &mut Vec::new()).is_ok()
    }

    /// Appends the pixels of a row.
    pub(super) fn read(&self, row: &Row, pixels: &mut Vec<u8>) -> Result<(), Fault> {
        let wanted = self.side * self.side;
        let start = pixels.len();
        let bad = |column: usize, what: &str| {
            let what = format!("column {}: {what}; {wanted} numbers from 0 to 255 are expected", column + 1);
            Fault::at(row.line, what)
        };
        for column in self.columns() {
            for word in row.field(column).split_ascii_whitespace() {
                let value = value(word).ok_or_else(|| bad(column, &format!("{word:?} is no pixel")))?;
                if pixels.len() - start == wanted {
                    return Err(bad(column, "there are more pixels than in the first row"));
                }
                pixels.push(value);
            }
        }
        if pixels.len() - start < wanted {
            return Err(bad(self.first, &format!("{} pixels", pixels.len() - start)));
        }
        Ok(())
    }
}

/// A pixel, also as a program writes it that takes all numbers for floating-point ones.
fn value(word: &str) -> Option<u8> {
    word.strip_suffix(".0").unwrap_or(word).parse().ok()
}

/// Where rows have pixels, if they have. `label_behind` says that the last column is known to be none.
pub(super) fn find(rows: &[&Row], label_behind: bool) -> Option<Place> {
    let in_one = |row: &&Row| {
        (0..row.len()).find_map(|column| {
            let words: Vec<&str> = row.field(column).split_ascii_whitespace().collect();
            let side = side_of(words.len()).filter(|_| words.len() >= FEWEST_PIXELS)?;
            words.iter().all(|word| value(word).is_some()).then_some(Place { first: column, count: 1, side })
        })
    };
    // One row may be damaged, which is told when it is read.
    if let Some(place) = rows.iter().take(LOOKED_AT).find_map(in_one) {
        return Some(place);
    }
    let width = rows.first()?.len();
    // A label in front or behind, perhaps with one column more.
    let fits = |count: usize| count >= FEWEST_COLUMNS - 1 && side_of(count).is_some();
    let places = [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2)];
    for (before, behind) in places.into_iter().filter(|(_, behind)| !label_behind || *behind > 0) {
        let Some(count) = width.checked_sub(before + behind).filter(|count| fits(*count)) else { continue };
        let place = Place { first: before, count, side: side_of(count)? };
        if rows.iter().take(LOOKED_AT).all(|row| row.len() == width && place.holds(row)) {
            return Some(place);
        }
    }
    None
}

/// The side of a square of that many pixels.
fn side_of(pixels: usize) -> Option<usize> {
    let side = pixels.isqrt();
    (side * side == pixels && (1..=MAX_SIDE).contains(&side)).then_some(side)
}
