//! Rows of data sets: their classes and images.

use std::collections::BTreeMap;

use ocelli_datasets::Split;
use ocelli_datasets::names::nfc;
use rusqlite::{OptionalExtension, Row, params};

use super::fault::{Fault, Tx};
use super::files::FileRow;
use super::files::{COLUMNS, file_of};
use crate::store::image::{Id, Origin};
use crate::store::info::{ClassInfo, DatasetSummary, ImageInfo};

/// Images of a class in each split: train, val, test.
pub(in crate::store) type SplitCounts = [usize; 3];

/// An image that is added to a data set.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct NewImage<'a> {
    pub(in crate::store) split: Split,
    /// What it was called where it came from.
    pub(in crate::store) name: &'a str,
    pub(in crate::store) added: u64,
    pub(in crate::store) origin: Origin,
}

/// An image of a snapshot.
#[derive(Clone, Debug)]
pub(in crate::store) struct SnapshotRow {
    pub(in crate::store) file: FileRow,
    pub(in crate::store) class: String,
    pub(in crate::store) split: Split,
}

/// A split as rows say it.
pub(super) fn split_word(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Val => "val",
        Split::Test => "test",
    }
}

pub(super) fn split_of(row: &Row<'_>, at: usize) -> Result<Split, rusqlite::Error> {
    let text: String = row.get(at)?;
    let unknown = |_| rusqlite::Error::InvalidColumnType(at, text.clone(), rusqlite::types::Type::Text);
    text.parse().map_err(unknown)
}

/// The key of a data set.
pub(in crate::store) fn find(tx: &Tx<'_>, name: &str) -> Result<Option<i64>, Fault> {
    let mut statement = tx.prepare_cached("SELECT id FROM datasets WHERE name = ?")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// The key of a data set, which is made where it is missing.
pub(in crate::store) fn find_or_make(tx: &Tx<'_>, name: &str, now: u64) -> Result<i64, Fault> {
    tx.execute(
        "INSERT INTO datasets (name, created, changed) VALUES (?1, ?2, ?2) ON CONFLICT (name) DO NOTHING",
        params![name, now as i64],
    )?;
    Ok(tx.query_row("SELECT id FROM datasets WHERE name = ?", [name], |row| row.get(0))?)
}

/// Notes a change of a data set, and images that came.
pub(in crate::store) fn touch(tx: &Tx<'_>, dataset: i64, now: u64, fresh: usize) -> Result<(), Fault> {
    tx.execute(
        "UPDATE datasets SET changed = ?2, fresh = fresh + ?3 WHERE id = ?1",
        params![dataset, now as i64, fresh as i64],
    )?;
    Ok(())
}

/// Images that came since a job was last asked for.
pub(in crate::store) fn fresh(tx: &Tx<'_>, name: &str) -> Result<u64, Fault> {
    let found = tx.query_row("SELECT fresh FROM datasets WHERE name = ?", [name], |row| row.get::<_, i64>(0));
    Ok(found.optional()?.unwrap_or(0) as u64)
}

/// A job was asked for.
pub(in crate::store) fn clear_fresh(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    tx.execute("UPDATE datasets SET fresh = 0 WHERE name = ?", [name])?;
    Ok(())
}

/// Names of all data sets, sorted.
pub(in crate::store) fn names(tx: &Tx<'_>) -> Result<Vec<String>, Fault> {
    let mut statement = tx.prepare("SELECT name FROM datasets ORDER BY name")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// All data sets by name.
pub(in crate::store) fn summaries(tx: &Tx<'_>) -> Result<Vec<DatasetSummary>, Fault> {
    let mut statement = tx.prepare(
        "SELECT d.name, d.changed, count(i.id), coalesce(sum(f.bytes), 0), count(f.damaged),
                (SELECT count(*) FROM classes c WHERE c.dataset = d.id)
         FROM datasets d LEFT JOIN images i ON i.dataset = d.id LEFT JOIN files f ON f.id = i.file
         GROUP BY d.id ORDER BY d.name",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(DatasetSummary {
            name: row.get(0)?,
            changed: row.get::<_, i64>(1)? as u64,
            images: row.get::<_, i64>(2)? as usize,
            bytes: row.get::<_, i64>(3)? as u64,
            damaged: row.get::<_, i64>(4)? as usize,
            classes: row.get::<_, i64>(5)? as usize,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// When a data set was made and last changed.
pub(in crate::store) fn times(tx: &Tx<'_>, dataset: i64) -> Result<(u64, u64), Fault> {
    let sql = "SELECT created, changed FROM datasets WHERE id = ?";
    Ok(tx.query_row(sql, [dataset], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))?)
}

/// Classes of a data set by name, with their images.
pub(in crate::store) fn classes(tx: &Tx<'_>, dataset: i64) -> Result<Vec<ClassInfo>, Fault> {
    let mut statement = tx.prepare(
        "SELECT c.name, count(i.id), coalesce(sum(i.split = 'train'), 0), coalesce(sum(i.split = 'val'), 0),
                coalesce(sum(i.split = 'test'), 0), count(f.damaged)
         FROM classes c LEFT JOIN images i ON i.class = c.id LEFT JOIN files f ON f.id = i.file
         WHERE c.dataset = ? GROUP BY c.id ORDER BY c.name",
    )?;
    let rows = statement.query_map([dataset], |row| {
        let count = |at: usize| row.get::<_, i64>(at).map(|n| n as usize);
        Ok(ClassInfo {
            name: row.get(0)?,
            images: count(1)?,
            train: count(2)?,
            val: count(3)?,
            test: count(4)?,
            damaged: count(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Classes by their name after NFC: what the data set calls them, and their images in each split.
pub(in crate::store) fn split_counts(
    tx: &Tx<'_>,
    dataset: i64,
) -> Result<BTreeMap<String, (String, SplitCounts)>, Fault> {
    let counted = classes(tx, dataset)?;
    Ok(counted
        .into_iter()
        .map(|class| (nfc(&class.name).into_owned(), (class.name, [class.train, class.val, class.test])))
        .collect())
}

/// Bytes and number of the images of a data set.
pub(in crate::store) fn totals(tx: &Tx<'_>, dataset: i64) -> Result<(usize, u64), Fault> {
    let sql = "SELECT count(*), coalesce(sum(f.bytes), 0) FROM images i JOIN files f ON f.id = i.file WHERE i.dataset = ?";
    Ok(tx.query_row(sql, [dataset], |row| {
        Ok((row.get::<_, i64>(0)? as usize, row.get::<_, i64>(1)? as u64))
    })?)
}

/// The key of a class by a name of it, which is made where the data set has no such class.
pub(in crate::store) fn class_key(tx: &Tx<'_>, dataset: i64, name: &str) -> Result<i64, Fault> {
    let composed = nfc(name);
    tx.prepare_cached(
        "INSERT INTO classes (dataset, name, composed) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    )?
    .execute(params![dataset, name, composed])?;
    let mut statement = tx.prepare_cached("SELECT id FROM classes WHERE dataset = ? AND composed = ?")?;
    Ok(statement.query_row(params![dataset, composed], |row| row.get(0))?)
}

/// Adds an image that the data set does not have, of a file that there is a row of.
pub(in crate::store) fn add(
    tx: &Tx<'_>,
    (dataset, class): (i64, i64),
    file: i64,
    image: &NewImage<'_>,
) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO images (dataset, class, file, split, name, added, source) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        dataset,
        class,
        file,
        split_word(image.split),
        image.name,
        image.added as i64,
        image.origin.as_str()
    ])?;
    Ok(())
}

const IMAGE: &str = "c.name, i.split, i.name, i.added, i.source";
const JOINED: &str = "images i JOIN classes c ON c.id = i.class JOIN files f ON f.id = i.file";

fn image_of(row: &Row<'_>) -> Result<(FileRow, ImageInfo), rusqlite::Error> {
    let file = file_of(row, 0)?;
    let source: String = row.get(10)?;
    let info = ImageInfo {
        id: file.id.to_string(),
        class: row.get(6)?,
        split: split_of(row, 7)?,
        name: row.get(8)?,
        added: row.get::<_, i64>(9)? as u64,
        source: Origin::parse(&source),
        bytes: file.bytes,
        damaged: file.damaged.clone(),
    };
    Ok((file, info))
}

/// An image of a data set with its file.
pub(in crate::store) fn image(
    tx: &Tx<'_>,
    dataset: i64,
    id: &Id,
) -> Result<Option<(FileRow, ImageInfo)>, Fault> {
    let sql = format!("SELECT {COLUMNS}, {IMAGE} FROM {JOINED} WHERE i.dataset = ? AND f.hash = ?");
    Ok(tx.prepare_cached(&sql)?.query_row(params![dataset, id.bytes()], image_of).optional()?)
}

/// Up to `limit` images from the `offset`th on, in the order in which they came, of one class or of all; and how many
/// there are.
pub(in crate::store) fn page(
    tx: &Tx<'_>,
    dataset: i64,
    class: Option<&str>,
    (offset, limit): (usize, usize),
) -> Result<(usize, Vec<ImageInfo>), Fault> {
    let class = match class {
        None => None,
        Some(class) => {
            let sql = "SELECT id FROM classes WHERE dataset = ? AND composed = ?";
            let found =
                tx.query_row(sql, params![dataset, nfc(class)], |row| row.get::<_, i64>(0)).optional()?;
            let Some(found) = found else { return Ok((0, Vec::new())) };
            Some(found)
        }
    };
    let condition = if class.is_some() { "i.class = ?1" } else { "i.dataset = ?1" };
    let key = class.unwrap_or(dataset);
    let total = tx.query_row(&format!("SELECT count(*) FROM images i WHERE {condition}"), [key], |row| {
        row.get::<_, i64>(0)
    })?;
    let sql =
        format!("SELECT {COLUMNS}, {IMAGE} FROM {JOINED} WHERE {condition} ORDER BY i.id LIMIT ?2 OFFSET ?3");
    let mut statement = tx.prepare(&sql)?;
    let rows = statement.query_map(params![key, limit as i64, offset as i64], image_of)?;
    let images = rows.map(|row| row.map(|(_, info)| info)).collect::<Result<_, _>>()?;
    Ok((total as usize, images))
}

/// Takes an image out of a data set, and its class where it was the last one.
pub(in crate::store) fn delete_image(tx: &Tx<'_>, dataset: i64, file: i64) -> Result<(), Fault> {
    take_out(tx, dataset, file)?;
    drop_empty_classes(tx, dataset)
}

/// Takes an image out of a data set; its class stays, whether it has images or not.
pub(in crate::store) fn take_out(tx: &Tx<'_>, dataset: i64, file: i64) -> Result<(), Fault> {
    tx.prepare_cached("DELETE FROM images WHERE dataset = ? AND file = ?")?.execute([dataset, file])?;
    Ok(())
}

/// Puts an image under another class of its data set.
pub(in crate::store) fn set_class(tx: &Tx<'_>, (dataset, class): (i64, i64), file: i64) -> Result<(), Fault> {
    tx.prepare_cached("UPDATE images SET class = ?2 WHERE dataset = ?1 AND file = ?3")?
        .execute([dataset, class, file])?;
    Ok(())
}

/// Removes the classes of a data set that have no images.
pub(in crate::store) fn drop_empty_classes(tx: &Tx<'_>, dataset: i64) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM classes WHERE dataset = ?1 AND NOT EXISTS (SELECT 1 FROM images i WHERE i.class = classes.id)",
        [dataset],
    )?;
    Ok(())
}

/// Deletes a data set; gives the keys of the files of its images, and of those that its changes keep.
pub(in crate::store) fn delete(tx: &Tx<'_>, dataset: i64) -> Result<Vec<i64>, Fault> {
    let keys = {
        let mut statement = tx.prepare(
            "SELECT file FROM images WHERE dataset = ?1
             UNION SELECT c.file FROM changed c JOIN changes g ON g.id = c.change WHERE g.dataset = ?1",
        )?;
        let rows = statement.query_map([dataset], |row| row.get(0))?;
        rows.collect::<Result<Vec<i64>, _>>()?
    };
    tx.execute("DELETE FROM images WHERE dataset = ?", [dataset])?;
    tx.execute("DELETE FROM datasets WHERE id = ?", [dataset])?;
    Ok(keys)
}

/// Freezes the whole images of a data set for a job, unless they are frozen already.
pub(in crate::store) fn freeze(tx: &Tx<'_>, dataset: i64, job: u64) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO snapshots (job, file, class, split)
         SELECT ?1, i.file, c.name, i.split FROM images i JOIN classes c ON c.id = i.class WHERE i.dataset = ?2",
        params![job as i64, dataset],
    )?;
    Ok(())
}

/// The images of a job's snapshot in the order in which they came, damaged ones among them.
pub(in crate::store) fn frozen(tx: &Tx<'_>, job: u64) -> Result<Vec<SnapshotRow>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS}, s.class, s.split FROM snapshots s JOIN files f ON f.id = s.file WHERE s.job = ? ORDER BY f.id"
    );
    let mut statement = tx.prepare(&sql)?;
    let rows = statement.query_map([job as i64], |row| {
        Ok(SnapshotRow { file: file_of(row, 0)?, class: row.get(6)?, split: split_of(row, 7)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Ends a snapshot; gives the keys of its files.
pub(in crate::store) fn thaw(tx: &Tx<'_>, job: u64) -> Result<Vec<i64>, Fault> {
    let keys = {
        let mut statement = tx.prepare("SELECT file FROM snapshots WHERE job = ?")?;
        let rows = statement.query_map([job as i64], |row| row.get(0))?;
        rows.collect::<Result<Vec<i64>, _>>()?
    };
    tx.execute("DELETE FROM snapshots WHERE job = ?", [job as i64])?;
    Ok(keys)
}

/// The images of a data set that are not damaged, in the order in which they came.
pub(in crate::store) fn whole(tx: &Tx<'_>, dataset: i64) -> Result<Vec<SnapshotRow>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS}, c.name, i.split FROM {JOINED} WHERE i.dataset = ? AND f.damaged IS NULL ORDER BY i.id"
    );
    let mut statement = tx.prepare(&sql)?;
    let rows = statement.query_map([dataset], |row| {
        Ok(SnapshotRow { file: file_of(row, 0)?, class: row.get(6)?, split: split_of(row, 7)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
