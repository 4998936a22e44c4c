//! Data sets in arrays: IDX and CIFAR.

use std::path::Path;

use ocelli_datasets::Source;

use crate::archives::read_items;
use crate::disk::with_files;
use crate::says_something;

fn open(path: &Path) {
    match Source::open_any(path) {
        Ok(source) => read_items(&source),
        Err(error) => says_something(&error),
    }
}

/// An input is the length of the images file in two bytes, that file, and the labels file.
pub(crate) fn idx(data: &[u8]) {
    let Some((length, rest)) = data.split_at_checked(2) else { return };
    let length = usize::from(u16::from_le_bytes([length[0], length[1]])).min(rest.len());
    let (images, labels) = rest.split_at(length);
    for end in ["", ".gz"] {
        let names = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"].map(|name| format!("{name}{end}"));
        with_files(&[(names[0].as_str(), images), (names[1].as_str(), labels)], |folder| {
            open(folder);
            open(&folder.join(&names[0]));
        });
    }
}

pub(crate) fn idx_seeds() -> Vec<Vec<u8>> {
    let seed = |channels: Option<u32>| {
        let sides = [Some(3), Some(4), Some(5), channels];
        let mut images = vec![0, 0, 8, sides.iter().flatten().count() as u8];
        sides.iter().flatten().for_each(|side: &u32| images.extend(side.to_be_bytes()));
        images.extend((0..60 * channels.unwrap_or(1)).map(|i| i as u8));
        let labels = [&[0, 0, 8, 1, 0, 0, 0, 3], &[0u8, 1, 0][..]].concat();
        [&(images.len() as u16).to_le_bytes()[..], &images, &labels].concat()
    };
    vec![seed(None), seed(Some(3))]
}

/// The first byte says which of the two sets it is; the second how long the file with class names is.
pub(crate) fn cifar(data: &[u8]) {
    let &[which, names, ref rest @ ..] = data else { return };
    let (meta, records) = rest.split_at(usize::from(names).min(rest.len()));
    let [file, meta_name] = if which % 2 == 0 {
        ["data_batch_1.bin", "batches.meta.txt"]
    } else {
        ["train.bin", "fine_label_names.txt"]
    };
    with_files(&[(file, records), (meta_name, meta)], open);
}

pub(crate) fn cifar_seeds() -> Vec<Vec<u8>> {
    let record = |labels: &[u8]| [labels, &[7; 3072]].concat();
    let names = b"ant\nbee\n";
    let header = |which: u8| [&[which, names.len() as u8][..], names].concat();
    vec![
        [header(0), record(&[0]), record(&[1])].concat(),
        [vec![0, 0], record(&[9]), record(&[3])].concat(),
        [header(1), record(&[0, 1]), record(&[1, 0])].concat(),
    ]
}
