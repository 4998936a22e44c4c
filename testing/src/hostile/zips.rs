//! Archives that no reader should take.

use super::images::png;
use crate::zip::{Header, central, crc32, deflated_zeros, end, local, unicode_path, zeros, zip64};
pub use crate::zip::{Part, zip};

/// A file with its story.
pub struct Hostile {
    /// What it tries.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
    /// A part of what the refusal says.
    pub says: &'static str,
}

/// A file of zeros that inflates to 158 times its size.
pub fn bomb(name: &str, matches: usize) -> Part {
    let packed = deflated_zeros(matches);
    Part::file(name, &packed).with(|header| {
        header.method = 8;
        header.size = zeros(matches) as u32;
    })
}

/// Images of two classes that differ from those of any other `seed`.
pub fn fine(seed: u8) -> Vec<Part> {
    let names = ["cats/1.png", "cats/2.png", "dogs/1.png", "dogs/2.png"];
    (0..).zip(names).map(|(i, name)| Part::file(name, &png(8, 8, &[seed, i]))).collect()
}

/// Archives in the way that only other tools write: accepted, with four images of two classes each.
pub fn unusual() -> Vec<(&'static str, Vec<u8>)> {
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
    let named = |seed| {
        let texts = ["猫/1.png", "猫/2.png", "狗/1.png", "狗/2.png"];
        let raw = |text: &str| {
            [if text.starts_with('猫') { b"\xc3\xa8" } else { b"\xb9\xb7" }, &text.as_bytes()[3..]].concat()
        };
        let parts = fine(seed).into_iter().zip(texts);
        let named = parts.map(|(part, text)| {
            part.with(|header| (header.name, header.extra) = (raw(text), unicode_path(&raw(text), text)))
        });
        named.collect::<Vec<_>>()
    };
    let mut once = named(9);
    once.iter_mut().for_each(|part| part.local.extra.clear());
    let renamed = |seed, names: [&str; 4]| {
        let parts = fine(seed).into_iter().zip(names);
        parts.map(|(part, name)| part.with(|h| h.name = name.as_bytes().to_vec())).collect::<Vec<_>>()
    };
    let mut icons =
        renamed(10, ["Canis sp./1.png", "Canis sp./2.png.", "Felis sp./1 /1.png", "Felis sp./2.png "]);
    icons.extend(
        ["Canis sp./Icon\r", "__MACOSX/Felis sp./._Icon\r", "Icon\r"].map(|name| Part::file(name, b"icon")),
    );
    let forms = renamed(11, ["caf\u{e9}/1.png", "cafe\u{301}/2.png", "th\u{e9}/1.png", "the\u{301}/2.png"])
        .into_iter()
        .map(|part| part.with(|header| header.flags = 1 << 11));
    let behind = |seed, bytes: &[u8]| [&zip(&fine(seed)), bytes].concat();
    vec![
        ("names in a field", zip(&named(8))),
        ("names in a field of the directory alone", zip(&once)),
        ("dots and spaces at the end, folder pictures of the Finder", zip(&icons)),
        ("two forms of Unicode", zip(&forms.collect::<Vec<_>>())),
        ("two zeros behind the end", behind(12, &[0; 2])),
        ("a block of zeros behind the end", behind(13, &[0; 4096])),
        ("a line break behind the end", behind(14, b"\n")),
        ("a line break of DOS behind the end", behind(15, b"\r\n")),
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
pub fn corpus() -> Vec<Hostile> {
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
        ("cats/.../evil.png", "dots and spaces"),
        ("cats/.. /evil.png", "dots and spaces"),
        ("cats/ /evil.png", "dots and spaces"),
        ("cats/Icon\r2", "control character"),
        ("cats\r/Icon\r", "control character"),
        ("", "no name"),
        (&deep, "folders deep"),
        (&"d/".repeat(1001), "bytes; at most 1024"),
        (&long, "bytes; at most 1024"),
    ] {
        let what =
            if name.len() > 40 { format!("name of {} bytes", name.len()) } else { format!("name {name:?}") };
        add(&what, beside(&[Part::file(name, &image)]), says);
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
        (["cats/\u{e9}.png", "cats/e\u{301}.png"], "two forms of Unicode"),
        (["caf\u{e9}/3.png", "cafe\u{301}/3.png"], "two forms of Unicode"),
        (["cats/\u{c9}.png", "cats/e\u{301}.png"], "upper and lower case"),
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
    for (method, says) in [
        (9, "Deflate64"),
        (12, "bzip2"),
        (14, "LZMA"),
        (93, "Zstandard"),
        (95, "XZ"),
        (98, "PPMd"),
        (99, "encrypted (AES)"),
        (6, "before 1993"),
        (200, "compression is not supported"),
    ] {
        let part = Part::file("cats/3.png", &image).with(|header| header.method = method);
        add(&format!("compression {method}"), beside(&[part]), says);
    }

    texts(&mut add, &beside, &image);
    lies(&mut add, &beside, &image);
    bombs(&mut add, &beside, &image);
    damage(&mut add);
    all
}

type Add<'a> = dyn FnMut(&str, Vec<u8>, &'static str) + 'a;

/// Names with two texts, or none.
fn texts(add: &mut Add, beside: &dyn Fn(&[Part]) -> Vec<u8>, image: &[u8]) {
    let field = |raw: &[u8], text| Part::file(raw, image).with(|h| h.extra = unicode_path(raw, text));
    let two = "gives another name";
    add("field with another name", beside(&[field(b"cats/3.png", "dogs/3.png")]), two);
    let flagged = field("caf\u{e9}/3.png".as_bytes(), "cats/3.png").with(|header| header.flags = 1 << 11);
    add("field and flag with two names", beside(&[flagged]), two);
    let mut hidden = Part::file("cats/3.png", image);
    hidden.local.extra = unicode_path(b"cats/3.png", "dogs/3.png");
    add("field that only the local header has", beside(&[hidden.clone()]), "two headers");
    hidden.central.extra = unicode_path(b"cats/3.png", "_ats/3.png");
    add("two fields that differ", beside(&[hidden]), "gives another name");
    let away = field(b"\x83\x5c/3.png", "../evil.png");
    add("field that leads out", beside(&[away]), "leads out of the archive");
    let twice = [field(b"\x83\x5c/3.png", "cats/1.png")];
    add("field with a name that is taken", beside(&twice), "listed twice");
    for (name, raw) in
        [("Chinese or Korean", &b"\xc3\xa8/3.png"[..]), ("no code page", b"\x9d\xb1\xff/3.png")]
    {
        add(name, beside(&[Part::file(raw, image)]), "make the ZIP again with UTF-8 names");
    }
}

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
    let number = |at: usize| u32::from_le_bytes(tail[at..at + 4].try_into().expect("it is there"));
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

    let far = [&[1, 0, 8, 0][..], &u64::MAX.to_le_bytes()].concat();
    let mut nowhere = honest.clone();
    (nowhere.offset, nowhere.central.extra) = (Some(u32::MAX), far);
    add("an entry at the end of all numbers", beside(&[nowhere]), "outside of the file");

    let unpacked = honest.clone().with(|header| header.size -= 1);
    add("two sizes, not packed", beside(&[unpacked]), "two sizes differ");
    add("wrong checksum", beside(&[honest.clone().with(|h| h.crc ^= 1)]), "checksum does not match");
    let mut broken = bomb("cats/3.png", 10);
    broken.data[4..].fill(0xff);
    add("broken stream", beside(&[broken]), "packed data is damaged");
    let mut short = bomb("cats/3.png", 10);
    short.both(|header| header.size += 1);
    add("inflates to less than it says", beside(&[short]), "packed data is damaged");
    let mut padded = bomb("cats/3.png", 10);
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
    add("158 to 1", beside(&[bomb("cats/bomb.png", 20_000)]), "more than 100 times its size");
    // Each stays below the MiB from which its own ratio counts, and is what it says.
    let crc = crc32(&vec![0; zeros(4_000)]);
    let grain = |i| bomb(&format!("cats/{i}.bmp"), 4_000).with(|header| header.crc = crc);
    let grains: Vec<Part> = (0..12).map(grain).collect();
    add("158 to 1 in small pieces", zip(&grains), "the archive inflates to more than 100 times");
    let mut modest = bomb("cats/bomb.png", 20_000);
    modest.both(|header| header.size = 1024);
    add("says 1 KB, inflates to 5 MB", beside(&[modest]), "more than it declares");
    let huge = bomb("cats/bomb.png", 100).with(|header| header.size = 1 << 30);
    add("says 1 GiB", beside(&[huge]), "more than 256 MiB inflated");
    let many: Vec<Part> =
        (0..21).map(|i| bomb(&format!("cats/{i}.png"), 100).with(|header| header.size = 200 << 20)).collect();
    add("says 4 GiB in all", beside(&many), "the archive inflates to more than 4096 MiB");
    let nested = Part::file("cats/inner.zip", &zip(&[Part::file("cats/1.png", image)]));
    add("only a ZIP in a ZIP", zip(&[nested]), "no image in a class folder, but a ZIP archive");
}

/// Archives that were cut, joined or changed.
fn damage(add: &mut Add) {
    let whole = zip(&fine(9));
    let directory = whole.windows(4).position(|w| w == b"PK\x01\x02").expect("it is there");
    let end = whole.len() - 22;
    add("nothing", Vec::new(), "does not begin like a ZIP");
    add("text", b"this is no archive, whatever it is called".to_vec(), "does not begin like a ZIP");
    add("empty archive", zip(&[]), "no image in a class folder");
    add("half", whole[..whole.len() / 2].to_vec(), "no end record");
    add("cut in the end record", whole[..whole.len() - 1].to_vec(), "no end record");
    for (name, behind) in [
        ("x", b"x".to_vec()),
        ("two line breaks", b"\n\n".to_vec()),
        ("zeros and more", b"\0\0x".to_vec()),
        ("many zeros", vec![0; 4097]),
    ] {
        add(&format!("{name} appended"), [&whole[..], &behind].concat(), "no end record");
    }
    add("two archives", [&whole[..], &zip(&fine(8))].concat(), "two end records");
    // The comment of the first end record is a second directory.
    let mut twice = whole.clone();
    let record = central(&fine(9)[0].central, 0);
    let at = twice.len();
    twice[at - 2..].copy_from_slice(&(record.len() as u16 + 22).to_le_bytes());
    twice.extend(&record);
    twice.extend(self::end(1, record.len() as u32, at as u32));
    add("two directories", twice, "two end records");
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, says) in [
        (b"7z\xbc\xaf\x27\x1c and more than an end record has".to_vec(), "it is a 7z archive"),
        (b"Rar!\x1a\x07\x01\0 and more than an end record has".to_vec(), "it is a RAR archive"),
        (tar, "it is a tar archive"),
        (b"\x1f\x8b\x08\0 and more than an end record has".to_vec(), "packed with gzip"),
        ([b"PK\x07\x08", &whole[..]].concat(), "one part of several"),
    ] {
        add(says, bytes, says);
    }
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
    let first = gap.windows(4).position(|w| w == b"PK\x01\x02").expect("it is there");
    let record = 46 + "cats/0.png".len();
    gap.drain(first..first + record);
    let end = gap.len() - 22;
    let length = u32::from_le_bytes(gap[end + 12..end + 16].try_into().expect("it is there")) - record as u32;
    gap[end + 8..end + 12].copy_from_slice(&[4, 0, 4, 0]);
    gap[end + 12..end + 16].copy_from_slice(&length.to_le_bytes());
    add("a first entry that the directory hides", gap, "data in front of its first entry");
}
