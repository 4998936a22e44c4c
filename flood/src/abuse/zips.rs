//! Archives that no reader should take, sent to a data set of their own. Each also holds four images of two classes that
//! would be taken, so that only its refusal keeps them out.

use serde_json::Value;

use super::run::{Must, Run};
use super::wire::{Until, Wire};
use crate::error::FloodError;
use ocelli_testing::hostile::images::huge_png;
use ocelli_testing::hostile::zips;
use ocelli_testing::zip::{Part, zip, zip64};

const THEME: &str = "zips";
/// Where archives are sent; a data set of this name should not exist.
const DATASET: &str = "ocelli-abuse";
/// Entries of the service's default limit.
const ENTRIES: usize = 100_000;

/// Sends all archives; whether anything of them stayed, where they could be sent.
pub(super) fn play(run: &mut Run) -> Result<Option<bool>, FloodError> {
    let before = match datasets(&run.wire) {
        Ok(before) => before,
        Err(why) => {
            run.skip(THEME, "all archives", format!("GET /v1/datasets {why}: a key for data is needed"))?;
            return Ok(None);
        }
    };
    if before.get(DATASET).is_some() {
        run.skip(THEME, "all archives", format!("there is a data set {DATASET} already: delete it first"))?;
        return Ok(None);
    }
    let path = format!("/upload-data?dataset={DATASET}");
    for (name, archive) in archives() {
        let bytes = run.wire.post(&path, "application/zip", &archive);
        run.bytes(THEME, name, Must::Refused, &bytes)?;
    }
    let mut kept = None;
    run.check(THEME, "what all archives left", "no new data set", |wire| {
        let after = datasets(wire).map_err(|why| format!("GET /v1/datasets {why}"))?;
        let new: Vec<String> = after
            .iter()
            .filter(|(name, _)| !before.contains_key(*name))
            .map(|(name, entry)| format!("{name}: {entry}"))
            .collect();
        kept = Some(!new.is_empty());
        if !new.is_empty() {
            Err(format!("new data sets, {}", new.join(", ")))
        } else {
            Ok("nothing".to_owned())
        }
    })?;
    Ok(kept)
}

/// The data sets by name, or what came in place of them.
fn datasets(wire: &Wire) -> Result<serde_json::Map<String, Value>, String> {
    let request = wire.request("GET /v1/datasets", "", b"");
    let reply =
        wire.send(&request, Until::Answers(1)).map_err(|error| format!("is not answered: {error}"))?;
    if reply.statuses != [200] {
        return Err(format!("is answered {}", reply.text()));
    }
    let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let list = value["datasets"].as_array().ok_or("is answered without data sets")?;
    let named = |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry.clone()));
    Ok(list.iter().filter_map(named).collect())
}

/// The archives with what each of them tries: those that no reader should take, and two that are too much.
fn archives() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> =
        zips::corpus().into_iter().map(|zips::Hostile { name, bytes, .. }| (name, bytes)).collect();
    let folders: Vec<Part> = (0..=ENTRIES).map(|i| Part::file(format!("{i}/"), b"")).collect();
    all.push(("100,001 folders".to_owned(), zip64(&folders, |_| ())));
    let huge = zip(&[Part::file("cats/1.png", &huge_png())]);
    all.push(("an image of 50,000 x 50,000".to_owned(), huge));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_differ_and_hold_what_would_be_taken() {
        let all = archives();
        let mut names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        let most = all.iter().map(|(_, bytes)| bytes.len()).max();
        assert!(most < Some(16 << 20), "{most:?}");
    }
}
