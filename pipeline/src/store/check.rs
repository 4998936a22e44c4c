//! Whether a data folder is what its database says.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use ocelli_common::text::chain;
use ocelli_engine::EngineError;
use ocelli_engine::model_file::{ModelFile, version_id};
use serde::Serialize;

use crate::store::backup::{self, copies};
use crate::store::database::{Database, files, versions};
use crate::store::disk::{self, COPIES, Condition, DATABASE, INCOMING, QUARANTINE};
use crate::store::error::StoreError;
use crate::store::image::IMAGES;
use crate::store::old_layout;

/// Something that is wrong with a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, relative to the folder.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What was done about it, or what can be done.
    pub next: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The folder.
    pub folder: PathBuf,
    /// Images that were compared with their hash.
    pub images: usize,
    /// Versions that were read and compared with their name.
    pub versions: usize,
    /// Other files that were compared with their hash.
    pub files: usize,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    fn add(&mut self, path: impl Into<String>, what: impl Into<String>, next: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), what: what.into(), next: next.into() });
    }
}

pub(super) const SEND_AGAIN: &str = "send the image again to restore it";
pub(super) const RESTORE: &str = "restore the file from a copy, or delete the version";
pub(super) const TAKEN_UP: &str = "the next start takes it up, if it is a model";
const REPAIR: &str = "a repair moves it to quarantine/";

/// Compares a data folder with its database, byte by byte. Changes nothing; a service may be using the folder.
///
/// # Errors
/// [`StoreError::Io`] when the folder cannot be read.
pub fn check(dir: &Path) -> Result<CheckReport, StoreError> {
    let dir = fs::canonicalize(dir).map_err(StoreError::io(dir))?;
    let mut report = CheckReport { folder: dir.clone(), ..CheckReport::default() };
    look_at_small_files(&dir, &mut report)?;
    let path = dir.join(DATABASE);
    if path.symlink_metadata().is_err() {
        let next = if old_layout::is_there(&dir)? {
            "the folder has the layout of an older version, and the next start takes it over"
        } else {
            "a repair restores it from a copy, or begins anew"
        };
        report.add(DATABASE, "it is missing", next);
        return Ok(report);
    }
    let database = match Database::look(&path) {
        Ok(database) => database,
        Err(StoreError::Database { reason, .. }) => {
            report.add(DATABASE, reason, "a repair restores what can be read of it");
            return Ok(report);
        }
        Err(StoreError::Conflict { reason }) => {
            report.add(DATABASE, reason, "start the program that wrote it");
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    if let Some(problem) = database.problem("integrity_check")? {
        report.add(DATABASE, problem, "a repair restores what can be read of it");
        return Ok(report);
    }
    let named = database.read(|tx| files::fact(tx, backup::FACT))?.unwrap_or_default();
    // A backup has the database itself, and no copies of it.
    let has_copies = dir.join(COPIES).is_dir();
    let gone = |name: &&str| has_copies && !dir.join(COPIES).join(name).exists();
    for name in named.split_whitespace().filter(gone) {
        report.add(
            format!("{COPIES}/{name}"),
            "it is missing",
            "the service makes another one when it stops",
        );
    }
    let mut known = HashSet::from(["lock", DATABASE, "ocelli.db-wal", "ocelli.db-shm"].map(str::to_owned));
    images(&dir, &database, &mut known, &mut report)?;
    models(&dir, &database, &mut known, &mut report)?;
    kept_files(&dir, &database, &mut known, &mut report)?;
    others(&dir, &database, &known, &mut report)?;
    Ok(report)
}

/// The lock and the copies of the database.
fn look_at_small_files(dir: &Path, report: &mut CheckReport) -> Result<(), StoreError> {
    match fs::metadata(dir.join("lock")) {
        Ok(meta) if meta.is_file() && meta.len() == 0 => {}
        Ok(_) => report.add("lock", "it is not an empty file", "remove it while no service uses the folder"),
        Err(_) => report.add("lock", "it is missing", "the next start makes it"),
    }
    if let Some(what) = log_problem(dir) {
        report.add("ocelli.db-wal", what, "what only it held is lost; the next start replaces it");
    }
    for copy in copies(dir)? {
        let problem = match Database::look(&copy) {
            Ok(database) => database.problem("quick_check")?,
            Err(error) => Some(chain(&error)),
        };
        if let Some(problem) = problem {
            let name = copy.file_name().unwrap_or_default().to_string_lossy();
            report.add(format!("{COPIES}/{name}"), problem, REPAIR);
        }
    }
    Ok(())
}

/// What is wrong with the log beside the database. The formats are those of https://www.sqlite.org/fileformat2.html
/// section 4.1 and https://www.sqlite.org/walformat.html section 2.1: the index says how many frames the log has.
fn log_problem(dir: &Path) -> Option<String> {
    /// Bytes before the first frame, and before the page of each frame.
    const HEADERS: (u64, u64) = (32, 24);
    let head = |name: &str, bytes: &mut [u8]| {
        let mut file = fs::File::open(dir.join(name)).ok()?;
        std::io::Read::read_exact(&mut file, bytes).ok()?;
        file.metadata().ok().map(|meta| meta.len())
    };
    let mut magic = [0; 4];
    let found = fs::metadata(dir.join("ocelli.db-wal")).map_or(0, |meta| meta.len());
    let readable = head("ocelli.db-wal", &mut magic).is_some();
    if found > 0 && !(readable && matches!(magic, [0x37, 0x7f, 0x06, 0x82 | 0x83])) {
        return Some("it is no log of the database".to_owned());
    }
    // A service that writes just now changes both: the index is believed where it is the same twice.
    let mut index = [0; 100];
    head("ocelli.db-shm", &mut index)?;
    let number = |at: usize| u32::from_ne_bytes([index[at], index[at + 1], index[at + 2], index[at + 3]]);
    let page = match u16::from_ne_bytes([index[14], index[15]]) {
        1 => 65_536,
        page => u64::from(page),
    };
    let (frames, done) = (u64::from(number(16)), u64::from(number(96)));
    if index[..48] != index[48..96] || number(0) != 3_007_000 || done >= frames {
        return None;
    }
    let wanted = HEADERS.0 + frames * (HEADERS.1 + page);
    let now = fs::metadata(dir.join("ocelli.db-wal")).map_or(0, |meta| meta.len());
    (now < wanted).then(|| format!("it has {now} bytes in place of {wanted}"))
}

fn images(
    dir: &Path,
    database: &Database,
    known: &mut HashSet<String>,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    for file in database.read(files::all)? {
        report.images += 1;
        let path = file.path();
        match disk::inspect_image(dir, &file).0 {
            Condition::Whole => {}
            Condition::Damaged(reason) => report.add(&path, reason, SEND_AGAIN),
            Condition::Unreadable(reason) => {
                report.add(&path, reason, "give the service the right to read it")
            }
        }
        known.insert(path);
    }
    Ok(())
}

fn models(
    dir: &Path,
    database: &Database,
    known: &mut HashSet<String>,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let all = database.read(|tx| {
        let mut all = Vec::new();
        for model in versions::models(tx)? {
            for row in versions::all(tx, &model)? {
                all.push((format!("models/{model}/{}.ocelli", row.version), row.version));
            }
        }
        Ok(all)
    })?;
    for (path, version) in all {
        report.versions += 1;
        match ModelFile::load(&dir.join(&path)).and_then(|file| file.content_hash()) {
            Ok(hash) if version_id(&hash) == version => {}
            Ok(hash) => {
                report.add(&path, format!("its content is that of version {}", version_id(&hash)), RESTORE);
            }
            Err(EngineError::Io { source, .. }) => match disk::condition_of(&source) {
                Condition::Damaged(reason) | Condition::Unreadable(reason) => {
                    report.add(&path, reason, RESTORE)
                }
                Condition::Whole => {}
            },
            Err(error) => report.add(&path, chain(&error), RESTORE),
        }
        known.insert(path);
    }
    Ok(())
}

/// Files of runs that are over, and lists of an older layout.
fn kept_files(
    dir: &Path,
    database: &Database,
    known: &mut HashSet<String>,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    for file in database.read(files::kept)? {
        report.files += 1;
        let what = match disk::digest(&dir.join(&file.path)) {
            Ok((bytes, _)) if bytes != file.bytes => Some(disk::other_size(bytes, file.bytes)),
            Ok((_, hash)) if hash != file.hash => Some("its content is another one".to_owned()),
            Ok(_) => None,
            Err(error) => match disk::condition_of(&error) {
                Condition::Damaged(reason) | Condition::Unreadable(reason) => Some(reason),
                Condition::Whole => None,
            },
        };
        if let Some(what) = what {
            report.add(&file.path, what, "nothing depends on it; a repair forgets it");
        }
        known.insert(file.path);
    }
    Ok(())
}

/// Files that nothing names, but for those of the service's own work.
fn others(
    dir: &Path,
    database: &Database,
    known: &HashSet<String>,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let open: Vec<_> =
        database.read(crate::store::database::jobs::all)?.into_iter().filter(|job| !job.ended).collect();
    let tables: Vec<String> = open.iter().map(|job| format!("{IMAGES}/job-{}.csv", job.id)).collect();
    // Runs that are under way change, and those that a kill ended are not described.
    let described: HashSet<&str> =
        known.iter().filter_map(|path| path.strip_prefix("runs/")?.split('/').next()).collect();
    let mut counted = 0;
    for path in disk::walk(dir, "")? {
        let top = path.split('/').next().unwrap_or_default();
        let of_open_run = || {
            path.strip_prefix("runs/")
                .and_then(|rest| rest.split('/').next())
                .is_some_and(|run| !described.contains(run))
        };
        let own = known.contains(&path)
            || matches!(top, QUARANTINE | INCOMING | COPIES)
            || tables.contains(&path)
            || of_open_run()
            // Images are read through a link to a folder.
            || path.starts_with(IMAGES) && dir.join(&path).is_dir()
            || path.rsplit('/').next().is_some_and(|name| name.contains(".tmp-"));
        if own {
            continue;
        }
        counted += 1;
        let next = if path.starts_with("models/") && path.ends_with(".ocelli") { TAKEN_UP } else { REPAIR };
        report.add(&path, "nothing names it", next);
    }
    report.files += counted;
    Ok(())
}
