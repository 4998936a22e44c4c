//! Archives that no reader should take, sent to a data set of their own. Each also holds four images of two classes that
//! would be taken, so that only its refusal keeps them out.

use serde_json::Value;

use super::images::huge_png;
use super::run::{Must, Run, SEED, SIDE};
use super::wire::{Until, Wire};
use crate::client::images::Images;
use crate::error::FloodError;
use crate::settings::Format;
use ocelli_testing::zip::{Part, central, crc32, deflated_zeros, end, local, zeros, zip, zip64};

const THEME: &str = "zips";
/// Where archives are sent; a data set of this name should not exist.
const DATASET: &str = "ocelli-abuse";
/// Most folders around a file that the service takes.
const DEPTH: usize = 32;
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
    for (name, archive) in archives()? {
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

type Add<'a> = dyn FnMut(&str, Vec<u8>) + 'a;

/// The archives with what each of them tries.
fn archives() -> Result<Vec<(String, Vec<u8>)>, FloodError> {
    let made = Images::make((SIDE, SIDE, 3), Format::Png, SEED)?;
    let image = made.files()[0].bytes.to_vec();
    let names = ["cats/1.png", "cats/2.png", "dogs/1.png", "dogs/2.png"];
    let fine: Vec<Part> =
        names.iter().zip(made.files()).map(|(name, picture)| Part::file(name, &picture.bytes)).collect();
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| all.push((name.to_owned(), bytes));
    let hostile = Hostile { fine, image };
    hostile.names(&mut add);
    hostile.kinds(&mut add);
    hostile.lies(&mut add);
    hostile.bombs(&mut add);
    hostile.damage(&mut add);
    Ok(all)
}

/// What archives are made of.
struct Hostile {
    /// Four images of two classes.
    fine: Vec<Part>,
    /// One more.
    image: Vec<u8>,
}

impl Hostile {
    /// The good images and some more entries.
    fn beside(&self, parts: &[Part]) -> Vec<u8> {
        zip(&[self.fine.as_slice(), parts].concat())
    }

    fn part(&self, name: impl AsRef<[u8]>) -> Part {
        Part::file(name, &self.image)
    }

    fn names(&self, add: &mut Add) {
        let deep = "d/".repeat(DEPTH + 1) + "x.png";
        for (name, what) in [
            ("../evil.png", "name ../evil.png"),
            ("cats/../../evil.png", "name cats/../../evil.png"),
            ("..\\evil.png", "name ..\\evil.png"),
            ("/etc/evil.png", "name /etc/evil.png"),
            ("\\evil.png", "name \\evil.png"),
            ("\\\\server\\share\\evil.png", "name of a network share"),
            ("C:\\evil.png", "name C:\\evil.png"),
            ("c:evil.png", "name c:evil.png"),
            ("cats/ev\0il.png", "name with NUL"),
            ("cats/ev\x1b[2Jil.png", "name that steers a terminal"),
            ("cats/CON", "name of a device"),
            ("cats/.../evil.png", "name of dots"),
            ("", "no name"),
            (&deep, "33 folders deep"),
            (&format!("cats/{}.png", "x".repeat(5000)), "name of 5,000 bytes"),
        ] {
            add(what, self.beside(&[self.part(name)]));
        }
        for (pair, what) in [
            (["cats/3.png", "cats/3.png"], "name twice"),
            (["cats/3.png", "cats\\3.png"], "name twice, other slash"),
            (["cats/3.png", "./cats//3.png"], "name twice, other spelling"),
            (["cats/x.png", "cats/X.png"], "name twice, other case"),
            (["cats/x", "cats/x/3.png"], "a file and a folder of one name"),
        ] {
            add(what, self.beside(&pair.map(|name| self.part(name))));
        }
        let flagged = self.part(b"cats/\xff.png").with(|header| header.flags = 1 << 11);
        add("name that says to be UTF-8 and is not", self.beside(&[flagged]));
    }

    /// Links, special files, encryption, packing that is not known.
    fn kinds(&self, add: &mut Add) {
        let link = |name: &str, mode| Part::file(name, b"/etc/passwd").with(|header| header.mode = mode);
        add("symbolic link", self.beside(&[link("cats/link", 0o120_777)]));
        let through = [link("cats/link", 0o120_777), self.part("cats/link/evil.png")];
        add("symbolic link and a file below it", self.beside(&through));
        add("device", self.beside(&[link("cats/null.png", 0o020_666)]));
        add("pipe", self.beside(&[link("cats/pipe.png", 0o010_666)]));
        let flags = |flags| self.part("cats/3.png").with(|header| header.flags = flags);
        add("encrypted", self.beside(&[flags(1)]));
        add("strongly encrypted", self.beside(&[flags(1 | 1 << 6)]));
        add("masked headers", self.beside(&[flags(1 << 13)]));
        for method in [12, 14, 93, 99] {
            let part = self.part("cats/3.png").with(|header| header.method = method);
            add(&format!("packed by method {method}"), self.beside(&[part]));
        }
    }

    /// Records that contradict each other or the bytes.
    fn lies(&self, add: &mut Add) {
        let honest = self.part("cats/3.png");
        let mut other = honest.clone();
        other.local.name = b"../x/3.png".to_vec();
        add("two headers with two names", self.beside(&[other]));
        let mut other = honest.clone();
        other.local.size += 1;
        add("two headers with two sizes", self.beside(&[other]));
        add("wrong checksum", self.beside(&[honest.clone().with(|header| header.crc ^= 1)]));
        add("size smaller than the data", self.beside(&[honest.clone().with(|header| header.size -= 1)]));
        let reach = |header: &mut ocelli_testing::zip::Header| {
            (header.packed, header.size) = (header.packed + 60, header.size + 60)
        };
        add("data that reaches into the directory", self.beside(&[honest.clone().with(reach)]));
        let at = |offset| Part { offset: Some(offset), ..honest.clone() };
        add("two entries at one place", self.beside(&[at(0)]));
        add("entry behind the end of the file", self.beside(&[at(0x7fff_ffff)]));

        let inner = self.part("dogs/3.png");
        let outer = Part::file("cats/3.png", &[b"....", local(&inner).as_slice()].concat());
        let begin: usize = self.fine.iter().map(|part| local(part).len()).sum();
        let inside = begin + local(&outer).len() - local(&inner).len();
        let mut body: Vec<u8> = self.fine.iter().chain([&outer]).flat_map(local).collect();
        let start = body.len();
        let mut offset = 0;
        for part in self.fine.iter().chain([&outer]) {
            body.extend(central(&part.central, offset as u32));
            offset += local(part).len();
        }
        body.extend(central(&inner.central, inside as u32));
        let length = body.len() - start;
        body.extend(end(6, length as u32, start as u32));
        add("entry inside of another", body);

        let ones = honest.clone().with(|header| (header.packed, header.size) = (u32::MAX, u32::MAX));
        add("ZIP64 sizes that are missing", self.beside(&[ones]));
        let far = Part { offset: Some(u32::MAX), ..honest.clone() };
        let mut nowhere = far;
        nowhere.central.extra = [&[1, 0, 8, 0][..], &u64::MAX.to_le_bytes()].concat();
        add("ZIP64 entry at 2^64 - 1", self.beside(&[nowhere]));
        let lie = |which: usize, value: u64| zip64(&self.fine, move |numbers| numbers[which] = value);
        add("ZIP64 record of 2^64 - 1 entries", lie(0, u64::MAX));
        add("ZIP64 directory without end", lie(1, u64::MAX));
        add("ZIP64 directory behind the end", lie(2, u64::MAX - 1));
        let mut lost = zip64(&self.fine, |_| ());
        let at = lost.len() - 22 - 12;
        lost[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        add("ZIP64 record that is not there", lost);
    }

    /// Little that becomes much.
    fn bombs(&self, add: &mut Add) {
        let bomb = |name: &str, matches| {
            Part::file(name, &deflated_zeros(matches)).with(|header| {
                header.method = 8;
                header.size = zeros(matches) as u32;
            })
        };
        add("5 MB in 32 KB", self.beside(&[bomb("cats/bomb.png", 20_000)]));
        add("50 MB in 320 KB", self.beside(&[bomb("cats/bomb.png", 200_000)]));
        let crc = crc32(&vec![0; zeros(4_000)]);
        let grains = (0..20).map(|i| bomb(&format!("cats/{i}.bmp"), 4_000).with(|header| header.crc = crc));
        add("20 MB in 130 KB, in small pieces", self.beside(&grains.collect::<Vec<_>>()));
        let modest = bomb("cats/bomb.png", 20_000).with(|header| header.size = 1024);
        add("says 1 KB and inflates to 5 MB", self.beside(&[modest]));
        let says = |size: u32| move |header: &mut ocelli_testing::zip::Header| header.size = size;
        add("says 4 GiB", self.beside(&[bomb("cats/bomb.png", 100).with(says(u32::MAX - 1))]));
        let many: Vec<Part> =
            (0..60).map(|i| bomb(&format!("cats/{i}.png"), 100).with(says(200 << 20))).collect();
        add("says 12 GB in 60 entries", self.beside(&many));
        let nested = Part::file("cats/inner.zip", &zip(&self.fine));
        add("a ZIP in a ZIP and nothing else", zip(&[nested]));
        let folders: Vec<Part> = (0..=ENTRIES).map(|i| Part::file(format!("{i}/"), b"")).collect();
        add("100,001 folders", zip64(&folders, |_| ()));
        add("an image of 50,000 x 50,000", zip(&[Part::file("cats/1.png", &huge_png())]));
    }

    /// Archives that were cut, joined or changed.
    fn damage(&self, add: &mut Add) {
        let whole = zip(&self.fine);
        let tail = whole.len() - 22;
        let directory: usize = self.fine.iter().map(|part| local(part).len()).sum();
        add("nothing", Vec::new());
        add("text", b"this is no archive, whatever it is called".to_vec());
        add("an archive of nothing", zip(&[]));
        for percent in [10, 50, 90] {
            add(&format!("cut at {percent} %"), whole[..whole.len() * percent / 100].to_vec());
        }
        add("cut in the end record", whole[..whole.len() - 1].to_vec());
        add("directory cut", [&whole[..directory + 50], &whole[tail..]].concat());
        add("text behind the end", [&whole[..], b"and more"].concat());
        add("two archives in a row", whole.repeat(2));
        add("a picture in front", [self.image.as_slice(), &whole].concat());
        let patched = |at: usize, bytes: &[u8]| {
            let mut zip = whole.clone();
            zip[at..at + bytes.len()].copy_from_slice(bytes);
            zip
        };
        add("directory overwritten", patched(directory, b"XXXX"));
        add("fewer entries than there are", patched(tail + 8, &[3, 0, 3, 0]));
        add("more entries than there are", patched(tail + 8, &[5, 0, 5, 0]));
        add("one part of several", patched(tail + 4, &[1, 0, 1, 0]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_differ_and_hold_what_would_be_taken() {
        let all = archives().unwrap_or_else(|failure| panic!("{failure:?}"));
        let mut names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        let most = all.iter().map(|(_, bytes)| bytes.len()).max();
        assert!(most < Some(16 << 20), "{most:?}");
    }
}
