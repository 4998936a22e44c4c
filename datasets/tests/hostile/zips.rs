//! Archives that no reader should take.

use super::images::png;
use super::{crc32, deflated_zeros, zeros};

/// A file with its story.
pub(crate) struct Hostile {
    /// What it tries.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// A part of what the refusal says.
    pub(crate) says: &'static str,
}

/// What a header says; nothing holds it to the truth.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) name: Vec<u8>,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) packed: u32,
    pub(crate) size: u32,
    pub(crate) extra: Vec<u8>,
    /// File type and permissions of Unix; only the directory has them.
    pub(crate) mode: u32,
}

/// An entry: two headers and what lies between.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) local: Header,
    pub(crate) central: Header,
    pub(crate) data: Vec<u8>,
    /// Where the directory says that it begins, if that is a lie.
    pub(crate) offset: Option<u32>,
}

impl Part {
    /// An honest file, not packed.
    pub(crate) fn file(name: impl AsRef<[u8]>, content: &[u8]) -> Part {
        let header = Header {
            name: name.as_ref().to_vec(),
            flags: 0,
            method: 0,
            crc: crc32(content),
            packed: content.len() as u32,
            size: content.len() as u32,
            extra: Vec::new(),
            mode: 0o100_644,
        };
        Part { local: header.clone(), central: header, data: content.to_vec(), offset: None }
    }

    /// A file of zeros that inflates to 158 times its size.
    pub(crate) fn bomb(name: &str, matches: usize) -> Part {
        let packed = deflated_zeros(matches);
        let mut part = Part::file(name, &packed);
        part.both(|header| {
            header.method = 8;
            header.size = zeros(matches) as u32;
        });
        part
    }

    /// Changes both headers alike.
    pub(crate) fn both(&mut self, change: impl Fn(&mut Header)) {
        change(&mut self.local);
        change(&mut self.central);
    }

    fn with(mut self, change: impl Fn(&mut Header)) -> Part {
        self.both(change);
        self
    }
}

/// The archive of some entries.
pub(crate) fn zip(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offsets = Vec::new();
    for part in parts {
        offsets.push(part.offset.unwrap_or(bytes.len() as u32));
        bytes.extend(local(part));
    }
    let directory = bytes.len();
    for (part, offset) in parts.iter().zip(offsets) {
        bytes.extend(central(&part.central, offset));
    }
    let length = bytes.len() - directory;
    bytes.extend(end(parts.len() as u16, length as u32, directory as u32));
    bytes
}

fn local(part: &Part) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04\x14\0".to_vec();
    bytes.extend(common(&part.local));
    bytes.extend(&part.local.name);
    bytes.extend(&part.local.extra);
    bytes.extend(&part.data);
    bytes
}

fn central(header: &Header, offset: u32) -> Vec<u8> {
    let mut bytes = b"PK\x01\x02\x14\x03\x14\0".to_vec();
    bytes.extend(common(header));
    // No comment, first disk, no internal attributes.
    bytes.extend([0; 6]);
    bytes.extend((header.mode << 16).to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend(&header.name);
    bytes.extend(&header.extra);
    bytes
}

/// Flags to lengths, which both headers share.
fn common(header: &Header) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(header.flags.to_le_bytes());
    bytes.extend(header.method.to_le_bytes());
    // Time and date: 1 January 1980.
    bytes.extend([0, 0, 0x21, 0]);
    for number in [header.crc, header.packed, header.size] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend((header.name.len() as u16).to_le_bytes());
    bytes.extend((header.extra.len() as u16).to_le_bytes());
    bytes
}

fn end(entries: u16, length: u32, offset: u32) -> Vec<u8> {
    let mut bytes = b"PK\x05\x06\0\0\0\0".to_vec();
    bytes.extend(entries.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// An archive whose numbers stand in a ZIP64 end record; `change` gets entries, length and offset.
pub(crate) fn zip64(parts: &[Part], change: impl Fn(&mut [u64; 3])) -> Vec<u8> {
    let mut bytes = zip(parts);
    let tail = bytes.split_off(bytes.len() - 22);
    let at = |from: usize| u64::from(u32::from_le_bytes(tail[from..from + 4].try_into().unwrap()));
    let mut numbers = [parts.len() as u64, at(12), at(16)];
    change(&mut numbers);
    let begin = bytes.len() as u64;
    bytes.extend(b"PK\x06\x06");
    bytes.extend(44u64.to_le_bytes());
    bytes.extend([45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [numbers[0], numbers[0], numbers[1], numbers[2]] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend(begin.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(end(u16::MAX, u32::MAX, u32::MAX));
    bytes
}

/// Images of two classes that differ from those of any other `seed`.
pub(crate) fn fine(seed: u8) -> Vec<Part> {
    let names = ["cats/1.png", "cats/2.png", "dogs/1.png", "dogs/2.png"];
    (0..).zip(names).map(|(i, name)| Part::file(name, &png(8, 8, &[seed, i]))).collect()
}

/// Archives in the way that only other tools write: accepted, with four images of two classes each.
pub(crate) fn unusual() -> Vec<(&'static str, Vec<u8>)> {
    let mut folders = fine(1);
    folders.extend(["cats/", "dogs\\", "./"].map(|name| Part::file(name, b"").with(|h| h.mode = 0o042_775)));
    let mut streamed = fine(2);
    for part in &mut streamed {
        part.both(|header| header.flags = 1 << 3);
        part.data.extend(b"PK\x07\x08");
        for number in [part.central.crc, part.central.packed, part.central.size] {
            part.data.extend(number.to_le_bytes());
        }
        (part.local.crc, part.local.packed, part.local.size) = (0, 0, 0);
    }
    let mut wide = fine(3);
    for part in &mut wide {
        let size = part.data.len() as u64;
        part.both(|header| {
            (header.packed, header.size) = (u32::MAX, u32::MAX);
            header.extra = [&[1, 0, 16, 0][..], &size.to_le_bytes(), &size.to_le_bytes()].concat();
        });
    }
    let mut comment = zip(&fine(4));
    let at = comment.len() - 2;
    comment[at] = 30;
    comment.extend(b"PK\x05\x06 is not the end of this file");
    comment.truncate(at + 2 + 30);
    let wrapped = fine(5).into_iter().map(|part| {
        let name = [b"./photos\\", part.local.name.as_slice()].concat();
        part.with(|header| header.name = name.clone())
    });
    let mut litter = fine(6);
    litter.extend(["__MACOSX/cats/._1.png", "cats/.DS_Store", "readme.txt"].map(|n| Part::file(n, b"text")));
    vec![
        ("folders, some shared by a group", zip(&folders)),
        ("lengths behind the data", zip(&streamed)),
        ("ZIP64 lengths", zip(&wide)),
        ("ZIP64 end record", zip64(&fine(7), |_| ())),
        ("comment that looks like an end record", comment),
        ("wrapped, backslashes", zip(&wrapped.collect::<Vec<_>>())),
        ("litter of systems", zip(&litter)),
    ]
}

/// The whole corpus. Every archive also holds the images of [`fine`], so that only the refusal keeps them out.
pub(crate) fn corpus() -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, says| {
        all.push(Hostile { name: name.to_owned(), bytes, says });
    };
    let beside = |parts: &[Part]| zip(&[fine(9).as_slice(), parts].concat());
    let image = png(8, 8, b"evil");

    let deep = "d/".repeat(33) + "x.png";
    let long = format!("cats/{}.png", "x".repeat(1020));
    for (name, says) in [
        ("../evil.png", "leads out of the archive"),
        ("cats/../../evil.png", "leads out of the archive"),
        ("..\\evil.png", "leads out of the archive"),
        ("cats\\..\\..\\evil.png", "leads out of the archive"),
        ("/etc/evil.png", "absolute path"),
        ("\\evil.png", "absolute path"),
        ("\\\\server\\share\\evil.png", "absolute path"),
        ("//server/share/evil.png", "absolute path"),
        ("C:\\evil.png", "drive letter"),
        ("c:evil.png", "drive letter"),
        ("cats/ev\0il.png", "control character"),
        ("cats/ev\x1b[2Jil.png", "control character"),
        ("cats/CON", "device under Windows"),
        ("cats/nul.png", "device under Windows"),
        ("com1.x/evil.png", "device under Windows"),
        ("cats/evil.png.", "ends in a dot or space"),
        ("cats /evil.png", "ends in a dot or space"),
        ("", "no name"),
        (&deep, "folders deep"),
        (&"d/".repeat(1001), "bytes; at most 1024"),
        (&long, "bytes; at most 1024"),
    ] {
        add(&format!("name {name:.40?}"), beside(&[Part::file(name, &image)]), says);
    }
    let not_utf8 = Part::file(b"cats/\xff.png", &image).with(|header| header.flags = 1 << 11);
    add("name that says to be UTF-8", beside(&[not_utf8]), "says to be UTF-8");

    for (names, says) in [
        (["cats/3.png", "cats/3.png"], "listed twice"),
        (["cats/3.png", "cats\\3.png"], "listed twice"),
        (["cats/3.png", "./cats//3.png"], "listed twice"),
        (["cats/x.png", "cats/X.png"], "upper and lower case"),
        (["cats/3.png", "Cats/4.png"], "upper and lower case"),
        (["cats/\u{e4}.png", "cats/\u{c4}.png"], "upper and lower case"),
        (["cats/x", "cats/x/3.png"], "both a file and a folder"),
        (["cats/x", "cats/x/"], "both a file and a folder"),
        (["cats/3.png", "dogs"], "both a file and a folder"),
    ] {
        let parts =
            names.map(|n| Part::file(n, if n.ends_with('/') { b"" } else { &image }).with(|h| h.mode = 0));
        add(&format!("names {names:?}"), beside(&parts), says);
    }

    let mode = |name: &str, mode| Part::file(name, b"/etc/passwd").with(|header| header.mode = mode);
    add("symbolic link", beside(&[mode("cats/link", 0o120_777)]), "link or another special file");
    let through = [mode("cats/link", 0o120_777), Part::file("cats/link/evil.png", &image)];
    add("symbolic link, then a file below it", beside(&through), "link or another special file");
    add("device", beside(&[mode("cats/device", 0o020_666)]), "link or another special file");
    add("setuid", beside(&[mode("cats/tool.png", 0o104_755)]), "special permission bits");
    add(
        "folder with content",
        beside(&[Part::file("cats/", &image).with(|h| h.mode = 0)]),
        "folder with content",
    );

    let flagged = |flags| beside(&[Part::file("cats/3.png", &image).with(|header| header.flags = flags)]);
    add("encrypted", flagged(1), "encrypted");
    add("strongly encrypted", flagged(1 << 6), "encrypted");
    add("directory encrypted", flagged(1 << 13), "encrypted");
    for method in [9, 12, 14, 93, 95, 99] {
        let part = Part::file("cats/3.png", &image).with(|header| header.method = method);
        add(&format!("compression {method}"), beside(&[part]), "compression is not supported");
    }

    lies(&mut add, &beside, &image);
    bombs(&mut add, &beside, &image);
    damage(&mut add);
    all
}

type Add<'a> = dyn FnMut(&str, Vec<u8>, &'static str) + 'a;

/// Records that contradict each other.
fn lies(add: &mut Add, beside: &dyn Fn(&[Part]) -> Vec<u8>, image: &[u8]) {
    let honest = Part::file("cats/3.png", image);
    let changed = |change: &dyn Fn(&mut Header)| {
        let mut part = honest.clone();
        change(&mut part.local);
        beside(&[part])
    };
    let says = "two headers say different things";
    add("another name in front", changed(&|local| local.name = b"../x/3.png".to_vec()), says);
    add("another length in front", changed(&|local| local.size += 1), says);
    add("another checksum in front", changed(&|local| local.crc ^= 1), says);
    add("another method in front", changed(&|local| local.method = 8), says);

    let inner = Part::file("dogs/3.png", image);
    let outer = Part::file("cats/3.png", &[b"....", local(&inner).as_slice()].concat());
    let begin: usize = fine(9).iter().map(|part| local(part).len()).sum();
    let inside = begin + local(&outer).len() - local(&inner).len();
    let mut nested = zip(&[fine(9).as_slice(), &[outer]].concat());
    let tail = nested.split_off(nested.len() - 22);
    let number = |at: usize| u32::from_le_bytes(tail[at..at + 4].try_into().unwrap());
    let record = central(&inner.central, inside as u32);
    nested.extend(&record);
    nested.extend(end(6, number(12) + record.len() as u32, number(16)));
    add("an entry inside another", nested, "overlaps that of");
    let mut twice = Part::file("cats/3.png", image);
    twice.offset = Some(0);
    add("two entries, one place", beside(&[twice]), says);
    let mut reaching = honest.clone();
    reaching.both(|header| (header.packed, header.size) = (header.packed + 60, header.size + 60));
    add("data that reaches into the directory", beside(&[reaching]), "overlaps the directory");
    let mut outside = honest.clone();
    outside.offset = Some(0x7fff_ffff);
    add("an entry behind the end of the file", beside(&[outside]), "outside of the file");

    let unpacked = honest.clone().with(|header| header.size -= 1);
    add("two sizes, not packed", beside(&[unpacked]), "two sizes differ");
    add("wrong checksum", beside(&[honest.clone().with(|h| h.crc ^= 1)]), "checksum does not match");
    let mut broken = Part::bomb("cats/3.png", 10);
    broken.data[4..].fill(0xff);
    add("broken stream", beside(&[broken]), "packed data is damaged");
    let mut short = Part::bomb("cats/3.png", 10);
    short.both(|header| header.size += 1);
    add("inflates to less than it says", beside(&[short]), "packed data is damaged");
    let mut padded = Part::bomb("cats/3.png", 10);
    padded.data.extend([0; 9]);
    padded.both(|header| {
        header.packed += 9;
        header.crc = crc32(&vec![0; zeros(10)]);
    });
    add("hides bytes behind its stream", beside(&[padded]), "packed data is damaged");

    let all_ones = honest.clone().with(|header| (header.packed, header.size) = (u32::MAX, u32::MAX));
    add("ZIP64 lengths that are missing", beside(&[all_ones]), "ZIP64 sizes are damaged");
    let many = zip64(&fine(9), |numbers| numbers[0] = 100_001);
    add("ZIP64 record of 100,001 entries", many, "100001 entries; at most 100000");
    let endless = zip64(&fine(9), |numbers| numbers[0] = u64::MAX);
    add("ZIP64 record of 2^64 entries", endless, "at most 100000");
    let far = zip64(&fine(9), |numbers| numbers[2] = u64::MAX - 1);
    add("ZIP64 directory behind the end", far, "does not lie where");
    let large = zip64(&fine(9), |numbers| numbers[1] = u64::MAX);
    add("ZIP64 directory without end", large, "does not lie where");
    let mut contradicting = zip64(&fine(9), |_| ());
    let at = contradicting.len() - 22;
    contradicting[at + 8..at + 12].copy_from_slice(&[3, 0, 3, 0]);
    add("ZIP64 record and end record differ", contradicting, "contradicts its end record");
    let mut lost = zip64(&fine(9), |_| ());
    lost[at - 12..at - 4].copy_from_slice(&u64::MAX.to_le_bytes());
    add("ZIP64 record that is not there", lost, "ZIP64 end record is damaged");
}

/// Little that becomes much.
fn bombs(add: &mut Add, beside: &dyn Fn(&[Part]) -> Vec<u8>, image: &[u8]) {
    add("158 to 1", beside(&[Part::bomb("cats/bomb.png", 20_000)]), "more than 100 times its size");
    // Each stays below the MiB from which its own ratio counts, and is what it says.
    let crc = crc32(&vec![0; zeros(4_000)]);
    let grain = |i| Part::bomb(&format!("cats/{i}.bmp"), 4_000).with(|header| header.crc = crc);
    let grains: Vec<Part> = (0..12).map(grain).collect();
    add("158 to 1 in small pieces", zip(&grains), "the archive inflates to more than 100 times");
    let mut modest = Part::bomb("cats/bomb.png", 20_000);
    modest.both(|header| header.size = 1024);
    add("says 1 KB, inflates to 5 MB", beside(&[modest]), "more than it declares");
    let huge = Part::bomb("cats/bomb.png", 100).with(|header| header.size = 1 << 30);
    add("says 1 GiB", beside(&[huge]), "more than 256 MiB inflated");
    let many: Vec<Part> = (0..21)
        .map(|i| Part::bomb(&format!("cats/{i}.png"), 100).with(|header| header.size = 200 << 20))
        .collect();
    add("says 4 GiB in all", beside(&many), "the archive inflates to more than 4096 MiB");
    let nested = Part::file("cats/inner.zip", &zip(&[Part::file("cats/1.png", image)]));
    add("only a ZIP in a ZIP", zip(&[nested]), "no image in a class folder");
}

/// Archives that were cut, joined or changed.
fn damage(add: &mut Add) {
    let whole = zip(&fine(9));
    let directory = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let end = whole.len() - 22;
    add("nothing", Vec::new(), "does not begin like a ZIP");
    add("text", b"this is no archive, whatever it is called".to_vec(), "does not begin like a ZIP");
    add("empty archive", zip(&[]), "no image in a class folder");
    add("half", whole[..whole.len() / 2].to_vec(), "no end record");
    add("cut in the end record", whole[..whole.len() - 1].to_vec(), "no end record");
    add("something appended", [&whole[..], b"x"].concat(), "no end record");
    add("directory cut", [&whole[..directory + 50], &whole[end..]].concat(), "does not lie where");
    add("behind a picture", [png(8, 8, b"front").as_slice(), &whole].concat(), "does not begin like a ZIP");
    let front = [b"PK\x03\x04 a program that unpacks itself", whole.as_slice()].concat();
    add("data in front", front, "does not lie where");
    let patched = |at: usize, bytes: &[u8]| {
        let mut zip = whole.clone();
        zip[at..at + bytes.len()].copy_from_slice(bytes);
        zip
    };
    add("directory overwritten", patched(directory, b"XXXX"), "directory is damaged");
    add("fewer entries than there are", patched(end + 8, &[3, 0, 3, 0]), "more than it declares");
    add("more entries than there are", patched(end + 8, &[5, 0, 5, 0]), "does not lie where");
    add("another part of several", patched(end + 4, &[1, 0, 1, 0]), "one part of several");
    let mut gap = zip(&[&[Part::file("cats/0.png", b"gone")], fine(9).as_slice()].concat());
    let first = gap.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let record = 46 + "cats/0.png".len();
    gap.drain(first..first + record);
    let end = gap.len() - 22;
    let length = u32::from_le_bytes(gap[end + 12..end + 16].try_into().unwrap()) - record as u32;
    gap[end + 8..end + 12].copy_from_slice(&[4, 0, 4, 0]);
    gap[end + 12..end + 16].copy_from_slice(&length.to_le_bytes());
    add("a first entry that the directory hides", gap, "data in front of its first entry");
}
