//! Tables of labels, and images that stand in a table.

use ocelli_datasets::{Labelling, LabelsPerImage, Source};
use ocelli_testing::{encode, picture};

use crate::archives::read_items;
use crate::disk::with_files;
use crate::says_something;

/// The table lies beside four images that it may name.
pub(crate) fn check(data: &[u8]) {
    let image = encode(picture(1, 4, 4), image::ImageFormat::Png);
    for table in ["labels.csv", "labels.tsv"] {
        let files =
            [(table, data), ("a.png", &image), ("b.png", &image), ("c.png", &image), ("d.png", &image)];
        with_files(&files, |folder| {
            let (own, all) =
                (folder.join(table), [LabelsPerImage::One, LabelsPerImage::Any, LabelsPerImage::AsFound]);
            for per_image in all {
                let given = Labelling { per_image, table: Some(&own) };
                let found = Labelling { per_image, table: None };
                for (path, labelling) in
                    [(&own, found), (&folder.to_owned(), found), (&folder.to_owned(), given)]
                {
                    match Source::open_labelled(path, &labelling) {
                        Ok(source) => read_items(&source),
                        Err(error) => says_something(&error),
                    }
                }
            }
        });
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| text.as_bytes().to_vec();
    let pixels = |row: u32| (0..16).map(|i| format!(",{}", i * row % 256)).collect::<String>();
    let header: String = (0..16).map(|i| format!(",pixel{i}")).collect();
    let wide = "file,label\na.png,x\nb.png,y\n".encode_utf16().flat_map(u16::to_le_bytes);
    vec![
        text("file,label\na.png,x\nb.png,y\nc.png,x\nd.png,y\n"),
        text("image\tclass\tsplit\na.png\tx\ttrain\nb.png\ty\ttest\nc.png\tx\tval\nd.png\ty\ttrain\n"),
        text("\u{feff}\"file\";\"label\"\r\n\"a.png\";\"x, y\"\r\n\"b\"\".png\";\"z\"\r\n"),
        text("file,labels,is_valid\na.png,x|y,1\nb.png,y,0\nc.png,,0\nd.png,z|x,1\n"),
        text("file,x,y,z\na.png,1,0,1\nb.png,0,,-1\nc.png,1,1,1\nd.png,0,0,1\n"),
        text("file,label\na.png,x\na.png,y\nb.png,x\nb.png,y\nc.png,z\nc.png,y\nd.png,x\nd.png,z\n"),
        text("a.png x\nb.png y\nc.png x\nd.png y\n"),
        text("id,cat,dog\na,1,0\nb,0,1\nc,1,0\nd,0,1\n"),
        text(&format!("label{header}\n0{}\n1{}\n", pixels(3), pixels(5))),
        [vec![0xff, 0xfe], wide.collect()].concat(),
    ]
}
