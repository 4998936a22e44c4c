//! Which column of a table names the images, which their classes and which their splits: by what the columns hold, then
//! by what they are called.

use super::find::{Certainty, Meaning, base_and_extension};
use super::lists;
use super::pixels;
use super::text::{Fault, Row};
use crate::names::nfc;
use crate::split::Split;
use crate::split_words::exact_split;
use ocelli_common::text::some_of;
use std::collections::BTreeSet;

/// Characters of a field that messages show.
const SHOWN: usize = 30;

/// Names of columns, in small letters and digits alone.
const PATH_NAMES: [&str; 19] = [
    "path",
    "file",
    "filename",
    "filepath",
    "image",
    "imagepath",
    "imagename",
    "imagefile",
    "img",
    "imgpath",
    "imgname",
    "imageid",
    "imgid",
    "photo",
    "picture",
    "images",
    "files",
    "id",
    "name",
];
/// The first in this order that a table has is taken: words rather than numbers, people's names rather than programs'.
const LABEL_NAMES: [&str; 27] = [
    "label",
    "labels",
    "classname",
    "labelname",
    "class",
    "classes",
    "category",
    "categoryname",
    "target",
    "targetname",
    "classlabel",
    "breed",
    "species",
    "diagnosis",
    "dx",
    "emotion",
    "expression",
    "tag",
    "groundtruth",
    "annotation",
    "finding",
    "variety",
    "level",
    "classid",
    "labelid",
    "categoryid",
    "y",
];
/// Columns whose values must be splits.
const SPLIT_NAMES: [&str; 4] = ["split", "set", "subset", "partition"];
/// Columns that say yes for validation and no for training.
const VALID_NAMES: [&str; 3] = ["isvalid", "isval", "isvalidation"];
/// Columns whose values may be splits.
const MAYBE_SPLIT_NAMES: [&str; 6] = ["part", "usage", "purpose", "phase", "mode", "stage"];

/// Most columns of a table that does not have one for each pixel.
const MAX_COLUMNS: usize = 4096;

/// Rows that choose the columns, spread evenly.
const SAMPLE: usize = 200;

/// Different values of a column that are counted; more are many.
const MANY: usize = 100_000;

/// Columns of a table that has names or pixels of images; `L` says where the labels stand.
pub(super) struct Columns<L = Label> {
    /// Names by number, where the table has a header.
    names: Option<Vec<String>>,
    /// Rows in front of the first image.
    pub(super) header_rows: usize,
    pub(super) images: Images,
    pub(super) label: L,
    pub(super) split: Option<SplitColumn>,
    /// Columns that nothing was read from.
    pub(super) unused: Vec<String>,
}

/// Where the images of a table are.
pub(super) enum Images {
    /// In files that this column names.
    Named(usize),
    /// In the table: one column of numbers, or a column for each pixel.
    Pixels(pixels::Place),
}

/// Where the class of a row stands.
pub(super) enum Label {
    Column(usize),
    /// The one of these columns that holds a 1; its name is the class.
    OneHot(Vec<usize>),
}

/// Where the labels of a row stand when it may have several.
pub(super) enum Several {
    /// In this column, between separators; without one, a label a row and several rows for an image.
    Lists { column: usize, separator: Option<char> },
    /// In these columns, one for each label: yes or no.
    Flags(Vec<usize>),
}

/// The column of splits.
#[derive(Clone, Copy)]
pub(super) struct SplitColumn {
    column: usize,
    /// Whether it says yes for validation and no for training, instead of a split's name.
    is_valid: bool,
}

/// Which columns say what an image is labelled with.
pub(super) trait LabelColumns {
    /// Their numbers, ascending.
    fn places(&self) -> &[usize];

    /// `column dx`, for messages; `name` names a column.
    fn about(&self, name: &dyn Fn(usize) -> String) -> String;
}

impl LabelColumns for Label {
    fn places(&self) -> &[usize] {
        match self {
            Label::Column(column) => std::slice::from_ref(column),
            Label::OneHot(columns) => columns,
        }
    }

    fn about(&self, name: &dyn Fn(usize) -> String) -> String {
        match self {
            Label::Column(column) => name(*column),
            Label::OneHot(columns) => format!("{} with one class each", columns.len()),
        }
    }
}

impl LabelColumns for Several {
    fn places(&self) -> &[usize] {
        match self {
            Several::Lists { column, .. } => std::slice::from_ref(column),
            Several::Flags(columns) => columns,
        }
    }

    fn about(&self, name: &dyn Fn(usize) -> String) -> String {
        match self {
            Several::Lists { column, separator: Some(' ') } => {
                format!("{} with labels between spaces", name(*column))
            }
            Several::Lists { column, separator: Some(mark) } => {
                format!("{} with labels between {mark:?}", name(*column))
            }
            Several::Lists { column, separator: None } => format!("{} with a label a row", name(*column)),
            Several::Flags(columns) => {
                let names: Vec<String> = columns.iter().map(|&column| name(column)).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{} with yes or no for a label each ({})", columns.len(), some_of(&names))
            }
        }
    }
}

impl<L: LabelColumns> Columns<L> {
    /// What messages call a column.
    pub(super) fn name(&self, column: usize) -> String {
        column_name(self.names.as_deref(), column)
    }

    /// The class that a column of zeros and ones stands for.
    pub(super) fn class_name(&self, column: usize) -> &str {
        self.names.as_ref().map_or("", |names| &names[column])
    }

    /// How many columns a row must have.
    pub(super) fn needed(&self) -> usize {
        let image = match &self.images {
            Images::Named(column) => *column,
            Images::Pixels(place) => place.columns().end - 1,
        };
        1 + image.max(self.label.places().last().copied().unwrap_or(0))
    }

    /// How many columns the header has.
    pub(super) fn width(&self) -> Option<usize> {
        self.names.as_ref().map(Vec::len)
    }

    /// `columns image and dx`, for messages.
    pub(super) fn about(&self) -> String {
        let images = match &self.images {
            Images::Named(column) => self.name(*column),
            Images::Pixels(place) => self.name(place.first),
        };
        let label = self.label.about(&|column| self.name(column));
        match self.split {
            Some(split) => format!("columns {images}, {label} and {}", self.name(split.column)),
            None => format!("columns {images} and {label}"),
        }
    }

    /// The split of a row, where it has one.
    pub(super) fn split_of(&self, row: &Row) -> Option<Split> {
        let SplitColumn { column, is_valid } = self.split?;
        match (is_valid, lists::flag(row.field(column))) {
            (false, _) => exact_split(row.field(column)),
            (true, _) if row.field(column).is_empty() => None,
            (true, flag) => flag.map(|valid| if valid { Split::Val } else { Split::Train }),
        }
    }
}

fn column_name(names: Option<&[String]>, column: usize) -> String {
    match names.and_then(|names| names.get(column)) {
        Some(name) if !name.is_empty() => shorten(name),
        _ => format!("number {}", column + 1),
    }
}

/// Finds the columns of `rows`, not empty. `find` tells what file a name means, `known` are the classes that labels are
/// expected to be, empty for any.
pub(super) fn choose(
    rows: &[Row],
    find: &dyn Fn(&str) -> Meaning,
    known: &BTreeSet<String>,
) -> Result<Columns, Fault> {
    choose_by(rows, find, false, |table, open, images| table.label_column(open, images, known))
}

/// As [`choose`], for a table whose rows may have several labels. `always` also takes one with a label an image for such.
///
/// # Errors
/// Also where each image has one label.
pub(super) fn choose_several(
    rows: &[Row],
    find: &dyn Fn(&str) -> Meaning,
    always: bool,
) -> Result<Columns<Several>, Fault> {
    choose_by(rows, find, true, |table, open, images| {
        let found = match images {
            Images::Named(path) => table.several_labels(open, (*path, find), always),
            Images::Pixels(_) => None,
        };
        found.ok_or_else(|| Fault::whole("each image has one label"))
    })
}

/// Finds the columns; `label` finds those of the labels among the open ones. Where `flags` may be labels, columns of zeros and
/// ones are no pixels.
fn choose_by<L: LabelColumns>(
    rows: &[Row],
    find: &dyn Fn(&str) -> Meaning,
    flags: bool,
    label: impl FnOnce(&Table, &[usize], &Images) -> Result<L, Fault>,
) -> Result<Columns<L>, Fault> {
    let body = if rows.len() > 1 { &rows[1..] } else { rows };
    let sample: Vec<&Row> = spread(body);
    let width = body.iter().map(Row::len).max().unwrap_or(0).max(rows[0].len());
    let label_behind = LABEL_NAMES.contains(&plain(rows[0].fields().last().unwrap_or("")).as_str());
    let black = |place: &pixels::Place| {
        sample.iter().all(|row| place.columns().all(|column| lists::flag(row.field(column)).is_some()))
    };
    let pixels = pixels::find(&sample, label_behind).filter(|place| !(flags && black(place)));
    let one_each = pixels.as_ref().is_some_and(|place| place.columns().len() > 1);
    if width > MAX_COLUMNS && !one_each {
        return Err(Fault::whole(format!("{width} columns; at most {MAX_COLUMNS} are read")));
    }
    // With a column for each pixel none of them names a file.
    let named = if one_each { None } else { path_column(rows, &sample, width, find) };
    let images = match (named, pixels) {
        (Some(column), _) => Images::Named(column),
        (None, Some(place)) => Images::Pixels(place),
        (None, None) => return Err(no_images(&rows[0], &sample)),
    };
    let names = header(rows, &sample, &images, find);
    let header_rows = usize::from(names.is_some());
    if rows.len() == header_rows {
        return Err(Fault::whole("no rows; each needs path,label or path,label,split"));
    }
    let table = Table { rows: &rows[header_rows..], sample, names, width };
    let taken = |column: usize| match &images {
        Images::Named(path) => column == *path,
        Images::Pixels(place) => place.columns().contains(&column),
    };
    let open: Vec<usize> = (0..width).filter(|&column| !taken(column)).collect();
    let split = table.split_column(&open)?;
    let open: Vec<usize> =
        open.into_iter().filter(|&column| split.is_none_or(|split| split.column != column)).collect();
    let label = label(&table, &open, &images)?;
    let unused = open.iter().filter(|column| !label.places().contains(column) && !table.is_index(**column));
    let unused = unused.map(|&column| column_name(table.names.as_deref(), column)).collect();
    Ok(Columns { header_rows, images, label, split, unused, names: table.names })
}

/// Up to [`SAMPLE`] rows.
fn spread(rows: &[Row]) -> Vec<&Row> {
    let n = rows.len().min(SAMPLE);
    (0..n).map(|i| &rows[i * rows.len() / n]).collect()
}

/// The column whose values mean files, certain ones before likely ones.
fn path_column(rows: &[Row], sample: &[&Row], width: usize, find: &dyn Fn(&str) -> Meaning) -> Option<usize> {
    let (first, all) = (&rows[0], spread(rows));
    let known = |column: usize| PATH_NAMES.contains(&plain(first.field(column)).as_str());
    let score = |column: usize| {
        let meanings = || all.iter().map(|row| find(row.field(column)));
        let is_sure =
            |m: &Meaning| matches!(m, Meaning::File(_, Certainty::Name) | Meaning::Labelled(Certainty::Name));
        let sure = meanings().filter(is_sure).count();
        let likely = meanings().filter(|m| *m != Meaning::Nothing).count();
        (sure, likely, known(column), std::cmp::Reverse(column))
    };
    let best = (0..width).map(score).max()?;
    if best.1 > 0 {
        return Some(best.3.0);
    }
    // No file is there: the column that would name them, for the message.
    let like_files =
        |column: &usize| sample.iter().all(|row| !base_and_extension(row.field(*column)).1.is_empty());
    (0..width).find(like_files).or_else(|| {
        let named = |column: &usize| {
            known(*column) && !["id", "name"].contains(&plain(first.field(*column)).as_str())
        };
        (0..width).find(named)
    })
}

/// Names of the columns, if the first row holds names and no image.
fn header(
    rows: &[Row],
    sample: &[&Row],
    images: &Images,
    find: &dyn Fn(&str) -> Meaning,
) -> Option<Vec<String>> {
    let first = &rows[0];
    let is_header = match images {
        Images::Named(path) => {
            let cell = first.field(*path);
            let names = || first.fields().map(plain);
            let named = names().any(|name| PATH_NAMES.contains(&name.as_str()))
                && names().any(|name| LABEL_NAMES.contains(&name.as_str()));
            find(cell) == Meaning::Nothing
                && (named || base_and_extension(cell).1.is_empty())
                && !cell.is_empty()
                || (rows.len() == 1 && named)
                || (cell.is_empty() && named)
        }
        Images::Pixels(place) => !place.holds(first),
    };
    if !is_header {
        return None;
    }
    let mut names: Vec<String> = first.fields().map(str::to_owned).collect();
    // Tables of R have row names without a name of their own.
    if rows.len() > 1 && sample.iter().all(|row| row.len() == first.len() + 1) {
        names.insert(0, String::new());
    }
    Some(names)
}

struct Table<'a> {
    rows: &'a [Row],
    sample: Vec<&'a Row>,
    names: Option<Vec<String>>,
    width: usize,
}

impl Table<'_> {
    fn plain_name(&self, column: usize) -> String {
        self.names.as_ref().and_then(|names| names.get(column)).map_or_else(String::new, |name| plain(name))
    }

    /// Values that are not empty, of all rows.
    fn values(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| row.field(column)).filter(|value| !value.is_empty())
    }

    fn distinct(&self, column: usize) -> usize {
        let mut seen = BTreeSet::new();
        self.values(column).take_while(|value| seen.insert(*value) || seen.len() < MANY).for_each(drop);
        seen.len()
    }

    /// The column of splits: called so, or holding nothing else.
    fn split_column(&self, open: &[usize]) -> Result<Option<SplitColumn>, Fault> {
        let called = |names: &[&str]| {
            open.iter().copied().find(|&column| names.contains(&self.plain_name(column).as_str()))
        };
        let holds_splits = |column: usize, least: usize| {
            let mut splits = BTreeSet::new();
            let all = self
                .values(column)
                .all(|value| exact_split(value).map(|split| splits.insert(split)).is_some());
            all && splits.len() >= least
        };
        if let Some(column) = called(&SPLIT_NAMES) {
            // Names of classes may stand in a column of any name; a mixture is a mistake.
            let splits = self.values(column).filter(|value| exact_split(value).is_some()).count();
            let Some(row) = self.rows.iter().find(|row| {
                let value = row.field(column);
                !value.is_empty() && exact_split(value).is_none()
            }) else {
                return Ok(Some(SplitColumn { column, is_valid: false }));
            };
            if splits > 0 {
                let what = format!(
                    "unknown split {:?} in column {}; write train, val or test",
                    row.field(column),
                    column_name(self.names.as_deref(), column)
                );
                return Err(Fault::at(row.line, what));
            }
        }
        let maybe = called(&MAYBE_SPLIT_NAMES).filter(|&column| holds_splits(column, 1));
        // Where labels are splits (a column beside the only path), they are labels.
        let by_content = || open.iter().copied().find(|&column| open.len() > 1 && holds_splits(column, 2));
        let without_header = || {
            let third = open.get(1).copied().filter(|_| self.names.is_none());
            third.filter(|&column| holds_splits(column, 1))
        };
        let named = maybe.or_else(by_content).or_else(without_header);
        let valid = || {
            let all_flags = |column: &usize| self.values(*column).all(|value| lists::flag(value).is_some());
            called(&VALID_NAMES).filter(all_flags)
        };
        let named = named.map(|column| SplitColumn { column, is_valid: false });
        Ok(named.or_else(|| valid().map(|column| SplitColumn { column, is_valid: true })))
    }

    /// The column of classes.
    fn label_column(
        &self,
        open: &[usize],
        images: &Images,
        known: &BTreeSet<String>,
    ) -> Result<Label, Fault> {
        if !known.is_empty() {
            let all_known = |column: &usize| {
                let mut values = self.sample.iter().map(|row| row.field(*column)).peekable();
                values.peek().is_some() && values.all(|value| known.contains(nfc(value).as_ref()))
            };
            if let Some(&column) = open.iter().find(|column| all_known(column)) {
                return Ok(Label::Column(column));
            }
        }
        let called = |name: &&str| open.iter().copied().find(|&column| self.plain_name(column) == *name);
        if let Some(column) = LABEL_NAMES.iter().find_map(called) {
            return Ok(Label::Column(column));
        }
        if let Some(one_hot) = self.one_hot(open) {
            return Ok(Label::OneHot(one_hot));
        }
        if let &[column] = open {
            return Ok(Label::Column(column));
        }
        if self.names.is_none() {
            let path = match images {
                Images::Named(path) => *path,
                Images::Pixels(place) => place.first,
            };
            let behind = open.iter().copied().find(|&column| column > path);
            return behind.or(open.first().copied()).map(Label::Column).ok_or_else(|| self.no_label(open));
        }
        let telling = |column: &usize| {
            let distinct = self.distinct(*column);
            !self.is_index(*column) && distinct > 1 && (distinct < self.rows.len() || self.rows.len() < 3)
        };
        let mut telling = open.iter().copied().filter(telling);
        match (telling.next(), telling.next()) {
            (Some(column), None) => Ok(Label::Column(column)),
            _ => Err(self.no_label(open)),
        }
    }

    /// Where the labels stand when images may have several: a column of lists, columns of yes and no, or several rows for
    /// an image. `None` where each image has one label, unless `always`.
    fn several_labels(
        &self,
        open: &[usize],
        (path, find): (usize, &dyn Fn(&str) -> Meaning),
        always: bool,
    ) -> Option<Several> {
        let called = |name: &&str| open.iter().copied().find(|&column| self.plain_name(column) == *name);
        let list = lists::NAMES.iter().find_map(called);
        let named = list.or_else(|| LABEL_NAMES.iter().find_map(called));
        if named.is_none()
            && let Some(flags) = self.flags(open, always)
        {
            return Some(Several::Flags(flags));
        }
        let first = || open.first().copied().filter(|_| open.len() == 1 || self.names.is_none());
        let column = named.or_else(first)?;
        let values = || self.rows.iter().map(|row| row.field(column));
        let separator = lists::separator(values, list.is_some(), always);
        if always || separator.is_some() {
            return Some(Several::Lists { column, separator });
        }
        let rows = self.rows.iter().map(|row| (find(row.field(path)), row.field(column)));
        let files = rows.filter_map(|(meaning, label)| match meaning {
            Meaning::File(file, _) => Some((file, label)),
            _ => None,
        });
        lists::listed_often(files).then_some(Several::Lists { column, separator: None })
    }

    /// Columns of yes and no, unless each row says yes once, which is a class a row.
    fn flags(&self, open: &[usize], always: bool) -> Option<Vec<usize>> {
        let is_flag = |&column: &usize| {
            !self.plain_name(column).is_empty()
                && self.values(column).next().is_some()
                && self.values(column).all(|value| lists::flag(value).is_some())
        };
        let columns: Vec<usize> = open.iter().copied().filter(is_flag).collect();
        let yes = |row: &Row| {
            columns.iter().filter(|&&column| lists::flag(row.field(column)) == Some(true)).count()
        };
        let enough = columns.len() >= 2 && self.rows.iter().any(|row| yes(row) > 0);
        (enough && (always || self.rows.iter().any(|row| yes(row) != 1))).then_some(columns)
    }

    /// Columns of zeros and ones of which each row has one 1.
    fn one_hot(&self, open: &[usize]) -> Option<Vec<usize>> {
        let number = |text: &str| text.parse::<f32>().ok().filter(|value| *value == 0.0 || *value == 1.0);
        let columns: Vec<usize> = open
            .iter()
            .copied()
            .filter(|&column| !self.plain_name(column).is_empty())
            .filter(|&column| self.sample.iter().all(|row| number(row.field(column)).is_some()))
            .collect();
        let one = |row: &&Row| {
            columns.iter().filter(|&&column| number(row.field(column)) == Some(1.0)).count() == 1
        };
        (columns.len() >= 2 && self.sample.iter().all(one)).then_some(columns)
    }

    /// Row numbers that programs write: whole numbers, each one more than the last, without a name or called index.
    fn is_index(&self, column: usize) -> bool {
        let name = self.plain_name(column);
        let named = name.is_empty() || name == "index" || name.starts_with("unnamed") || name == "rownames";
        let mut numbers = self.rows.iter().map(|row| row.field(column).parse::<u64>().ok());
        named && self.names.is_some() && numbers.all(|number| number.is_some())
    }

    fn no_label(&self, open: &[usize]) -> Fault {
        let columns: Vec<String> = (0..self.width)
            .take(20)
            .map(|column| match self.sample.first() {
                Some(row) if open.contains(&column) => {
                    format!(
                        "{} (e.g. {})",
                        column_name(self.names.as_deref(), column),
                        shorten(row.field(column))
                    )
                }
                _ => column_name(self.names.as_deref(), column),
            })
            .collect();
        Fault::whole(format!(
            "which column holds the label cannot be told from its header; the columns are {}; rename the right one to label",
            columns.join(", ")
        ))
    }
}

/// What to say of a table that names no image.
fn no_images(first: &Row, sample: &[&Row]) -> Fault {
    let cells: Vec<String> = first.fields().take(20).map(shorten).collect();
    let columns = if first.len() == 1 { "its only column is" } else { "the columns of its header are" };
    let example = sample.first().map_or_else(String::new, |row| shorten(row.field(0)));
    Fault::whole(format!(
        "no column names image files or holds their pixels; {columns} {} (first value \"{example}\"); write the paths of the \
         images, relative to the table, into a column named path, and their classes into a column named label",
        cells.join(", ")
    ))
}

/// A field as messages show it: short, on one line.
fn shorten(text: &str) -> String {
    let mut rest = text.chars();
    let mut short = String::new();
    for c in rest.by_ref().take(SHOWN) {
        match c.is_control() {
            true => short.extend(c.escape_default()),
            false => short.push(c),
        }
    }
    if rest.next().is_some() { short + "..." } else { short }
}

/// Small letters and digits of a name.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
