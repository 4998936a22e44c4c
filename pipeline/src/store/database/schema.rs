//! The tables, and how an older form becomes this one.

use rusqlite::{Connection, TransactionBehavior};

/// Version of the tables, in `user_version`. A step is added to [`STEPS`] for each change, and none is ever edited.
pub(in crate::store) const VERSION: usize = STEPS.len();

/// Tables that came after the first version, and the version that brought them.
pub(super) const LATER: [(&str, usize); 3] = [("changes", 2), ("changed", 2), ("version_labels", 3)];

/// Part of the text that refuses a database of a newer program.
pub(super) const NEWER: &str = "and this program knows those";

/// Times are seconds since 1970-01-01 UTC. Ids of jobs are never given twice (`AUTOINCREMENT`).
const STEPS: [&str; 3] = [
    "
CREATE TABLE files (                 -- images/AB/HASH.EXTENSION
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    extension TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    written INTEGER NOT NULL DEFAULT 0, -- when it was last changed, when it was last found whole; in nanoseconds
    damaged TEXT                     -- why it cannot be used; NULL while it is whole
) STRICT;
CREATE TABLE datasets (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    fresh INTEGER NOT NULL DEFAULT 0 -- images since a job was last asked for
) STRICT;
CREATE TABLE classes (
    id INTEGER PRIMARY KEY,
    dataset INTEGER NOT NULL REFERENCES datasets ON DELETE CASCADE,
    name TEXT NOT NULL,              -- as its first image had it
    composed TEXT NOT NULL,          -- after NFC
    UNIQUE (dataset, composed)
) STRICT;
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset INTEGER NOT NULL REFERENCES datasets ON DELETE CASCADE,
    class INTEGER NOT NULL REFERENCES classes,
    file INTEGER NOT NULL REFERENCES files,
    split TEXT NOT NULL CHECK (split IN ('train', 'val', 'test')),
    name TEXT NOT NULL,              -- what it was called where it came from
    added INTEGER NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('upload', 'feedback')),
    UNIQUE (dataset, file)
) STRICT;
CREATE INDEX images_class ON images (class, split);
CREATE INDEX images_file ON images (file);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    dataset TEXT NOT NULL,
    ended INTEGER NOT NULL,          -- 0 while there is something to do
    record TEXT NOT NULL             -- JSON
) STRICT;
CREATE TABLE epochs (
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    epoch INTEGER NOT NULL,
    metrics TEXT NOT NULL,           -- JSON
    PRIMARY KEY (job, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    number INTEGER NOT NULL,         -- from 1
    event TEXT NOT NULL,
    data TEXT NOT NULL,              -- JSON
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE snapshots (             -- the images of a job, as they were when it began
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    file INTEGER NOT NULL REFERENCES files,
    class TEXT NOT NULL,
    split TEXT NOT NULL,
    PRIMARY KEY (job, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshots_file ON snapshots (file);
CREATE TABLE versions (
    id INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    version TEXT NOT NULL,           -- the first 12 digits of the content's SHA-256
    number INTEGER NOT NULL,
    record TEXT NOT NULL,            -- JSON
    evaluation TEXT,                 -- JSON
    written INTEGER NOT NULL DEFAULT 0, -- as in files
    damaged TEXT,
    UNIQUE (model, version),
    UNIQUE (model, number)
) STRICT;
CREATE TABLE served (                -- the last one of a model serves
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX served_version ON served (version);
CREATE TABLE judged_on (             -- images by which a version was compared
    version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE,
    file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    class TEXT NOT NULL,
    PRIMARY KEY (version, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX judged_on_file ON judged_on (file);
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    file INTEGER NOT NULL UNIQUE REFERENCES files,
    added INTEGER NOT NULL,
    predicted TEXT,
    label TEXT,
    version TEXT,
    note TEXT
) STRICT;
CREATE INDEX feedback_added ON feedback (added, id);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL             -- JSON
) STRICT;
CREATE TABLE removed (               -- files that no row names any more, to be removed
    path TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE kept_files (            -- files that no other table describes: of runs, and lists of an older layout
    path TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE facts (                 -- single values
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE changes (               -- of images, by people; the newest ones of a data set can be undone
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    dataset INTEGER NOT NULL REFERENCES datasets ON DELETE CASCADE,
    at INTEGER NOT NULL,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    class TEXT,                      -- what the images became; NULL: they were removed
    undone INTEGER                   -- when
) STRICT;
CREATE INDEX changes_dataset ON changes (dataset, id);
CREATE TABLE changed (               -- what the images of a change were before it
    change INTEGER NOT NULL REFERENCES changes ON DELETE CASCADE,
    file INTEGER NOT NULL REFERENCES files,
    class TEXT NOT NULL,
    split TEXT NOT NULL,
    name TEXT NOT NULL,
    added INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (change, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX changed_file ON changed (file);
",
    "
CREATE TABLE version_labels (        -- versions that answer beside the one that serves
    model TEXT NOT NULL,
    label TEXT NOT NULL CHECK (label IN ('canary', 'shadow')),
    version INTEGER NOT NULL REFERENCES versions ON DELETE CASCADE,
    share INTEGER,                   -- percent of the requests, of a canary
    PRIMARY KEY (model, label)
) STRICT, WITHOUT ROWID;
CREATE INDEX version_labels_version ON version_labels (version);
",
];

/// Brings the tables to [`VERSION`], a step at a time, each in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    migrate_to(connection, VERSION)
}

/// Brings the tables to a version that is no older than theirs.
pub(super) fn migrate_to(connection: &mut Connection, version: usize) -> Result<(), rusqlite::Error> {
    let found = check_version(connection)?;
    for (number, step) in STEPS.iter().enumerate().take(version).skip(found) {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "user_version", number as i64 + 1)?;
        tx.commit()?;
    }
    Ok(())
}

/// The version of the tables; an error where a newer program wrote them.
pub(super) fn check_version(connection: &Connection) -> Result<usize, rusqlite::Error> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    usize::try_from(found).ok().filter(|&found| found <= VERSION).ok_or_else(|| {
        let reason = format!(
            "its tables have version {found}, {NEWER} up to {VERSION}: start the program that wrote it"
        );
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_SCHEMA), Some(reason))
    })
}
