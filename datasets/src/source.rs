//! An opened data set: class names and items, nothing decoded yet.

use crate::bundled;
use crate::cifar::{self, Records};
use crate::decode::{DecodeLimits, Image, Pixels, decode_channels, probe};
use crate::error::{DatasetError, DecodeError, io_error};
use crate::files::{FileKind, Found, MAX_ENTRIES, is_junk};
use crate::folder::{self, Depth};
use crate::idx::{self, IdxSet};
use crate::item::{Item, Labels};
use crate::labelling::{Labelling, LabelsPerImage};
use crate::layout::{self, Arranged, Labelled};
use crate::pixel_array::PixelArray;
use crate::split::ContentHash;
use crate::table::{self, Stored};
use crate::zip::{HEAD_BYTES, Listing, ZipFolder, other_archive};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) mod classes;

/// How many images [`Source::native_shape`] looks at.
const SHAPE_SAMPLE: usize = 64;

/// What [`Source::kind`] says of the bundled photos.
pub const PHOTOS_KIND: &str = "bundled sign-digits";

/// Longest [`Source::name`].
const MAX_NAME: usize = 64;

/// The size and colour of a source's images as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NativeShape {
    /// Width and height, if all images looked at agree.
    pub size: Option<(u32, u32)>,
    /// 1 when all images looked at are gray, else 3.
    pub channels: u8,
    /// Median width and median height; 0 when no image could be read.
    pub median: (u32, u32),
}

/// A data set that has been opened: what is there, nothing decoded.
pub struct Source {
    kind: &'static str,
    name: String,
    classes: Vec<String>,
    items: Vec<Item>,
    notes: Vec<String>,
    store: Store,
}

/// Where the bytes of the items lie, in their order.
enum Store {
    Files(Vec<PathBuf>),
    Zip {
        archive: ZipFolder,
        entries: Vec<usize>,
    },
    Idx(Vec<PixelArray>),
    Cifar(Records),
    /// Some of another store's items: an item's place there.
    Picked {
        store: Box<Store>,
        places: Vec<usize>,
    },
}

/// An item as it was read.
pub(crate) struct Content {
    /// SHA-256 of the file's bytes, or of the pixels where the format has no files.
    pub(crate) hash: ContentHash,
    raw: Raw,
}

enum Raw {
    File(Vec<u8>),
    Image(Image),
}

impl Content {
    /// What decides which image it is: the hash, and where the format has no files the shape, too, which their headers
    /// give to the same pixels.
    pub(crate) fn identity(&self) -> ContentHash {
        let Raw::Image(image) = &self.raw else { return self.hash };
        let mut hasher = Sha256::new_with_prefix(self.hash);
        hasher.update(image.width.to_le_bytes());
        hasher.update(image.height.to_le_bytes());
        hasher.update([image.channels]);
        hasher.finalize().into()
    }

    /// Files are decoded by [`decode_channels`].
    pub(crate) fn decode(self, limits: &DecodeLimits, channels: u8) -> Result<Image, DecodeError> {
        match self.raw {
            Raw::File(bytes) => decode_channels(&bytes, limits, channels),
            Raw::Image(image) => Ok(image),
        }
    }
}

impl Store {
    /// The store that holds the bytes of an item, and the item's place in it.
    fn locate(&self, index: usize) -> (&Store, usize) {
        match self {
            Store::Picked { store, places } => store.locate(places[index]),
            own => (own, index),
        }
    }

    /// The store that holds the bytes of all items.
    fn base(&self) -> &Store {
        match self {
            Store::Picked { store, .. } => store.base(),
            own => own,
        }
    }
}

impl Source {
    /// Opens whatever lies at `path`: a folder of class folders or of splits with class folders, a ZIP of either, a
    /// folder with IDX or CIFAR binary files, one IDX images file, or a table of labels (CSV, TSV). Images without class
    /// folders have their labels from tables beside them.
    ///
    /// # Errors
    /// [`DatasetError`], with [`DatasetError::OneClass`] for fewer than two classes.
    pub fn open(path: &Path) -> Result<Source, DatasetError> {
        let source = Self::open_any(path)?;
        match source.classes.as_slice() {
            [class] => Err(DatasetError::OneClass { path: path.to_owned(), class: class.clone() }),
            _ => Ok(source),
        }
    }

    /// As [`Source::open`], but one class is enough: for evaluating, where the classes come from the model.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn open_any(path: &Path) -> Result<Source, DatasetError> {
        Self::open_labelled(path, &Labelling::default())
    }

    /// As [`Source::open_any`], with labels as `labelling` says: from a table of its own, or any number for an image. The
    /// images of other layouts than tables have one label each.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn open_labelled(path: &Path, labelling: &Labelling) -> Result<Source, DatasetError> {
        let meta = fs::metadata(path).map_err(|e| io_error(path, e))?;
        let opened = if meta.is_dir() {
            open_folder(path, labelling)?
        } else if meta.is_file() {
            open_file(path, labelling)?
        } else {
            return Err(unknown(path, "neither a file nor a folder"));
        };
        Ok(Source { name: short_name(path, meta.is_dir()), ..opened }.labelled(labelling.per_image))
    }

    /// The same images with so many labels each: of any number they have their class.
    pub fn labelled(mut self, per_image: LabelsPerImage) -> Source {
        if per_image == LabelsPerImage::Any {
            for item in &mut self.items {
                item.labels = Labels::any(item.labels.as_slice().to_vec());
            }
        }
        self
    }

    /// Whether images have any number of labels instead of one class each.
    pub fn is_multi_label(&self) -> bool {
        matches!(self.items.first(), Some(Item { labels: Labels::Any(_), .. }))
    }

    /// Fashion-MNIST from inside the binary, with training and test split.
    pub fn bundled() -> Source {
        let source = from_idx(bundled::fashion_mnist());
        Source { kind: "bundled fashion-mnist", name: "fashion-mnist".to_owned(), ..source }
    }

    /// 600 photos of hands that show the digits 0 to 9, from inside the binary, without splits.
    pub fn bundled_photos() -> Source {
        let (archive, listing) = ZipFolder::embedded(bundled::SIGN_DIGITS)
            .expect("the embedded archive is part of the build and a test reads it");
        let path = Path::new("bundled");
        let source = from_zip(path, (archive, listing), &Labelling::default())
            .expect("the embedded archive holds class folders, and a test reads it");
        Source { kind: PHOTOS_KIND, name: "sign-digits".to_owned(), notes: Vec::new(), ..source }
    }

    /// `class folders`, `split folders`, `zip`, `idx`, `cifar`, `csv`, `bundled fashion-mnist` or
    /// `bundled sign-digits`.
    pub fn kind(&self) -> &str {
        self.kind
    }

    /// A short name for run folders: file or folder name, only `A-Z a-z 0-9 . _ -`, never empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Class names; the class of an item is an index into them. Natural order (`class2` before `class10`), except that
    /// IDX and CIFAR keep the order of their labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The same source under another name, where the file's own says nothing to people.
    pub fn named(self, name: &str) -> Source {
        Source { name: name.to_owned(), ..self }
    }

    /// All items, in an order that depends only on their names.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What a user should know: files ignored and why, classes missing from a split. One line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads and decodes one item, and gives the SHA-256 of its content: of the file's bytes, or of the pixels where
    /// the format has no files. Threads may call this at once.
    ///
    /// # Errors
    /// [`DecodeError`] for this item; other items are not affected.
    ///
    /// # Panics
    /// When `index` is not below the number of items.
    pub fn image(&self, index: usize, limits: &DecodeLimits) -> Result<(Image, ContentHash), DecodeError> {
        self.image_of(index, limits, 3)
    }

    /// As [`Source::image`], decoded by [`decode_channels`].
    ///
    /// # Errors
    /// As [`Source::image`].
    ///
    /// # Panics
    /// As [`Source::image`].
    pub fn image_of(
        &self,
        index: usize,
        limits: &DecodeLimits,
        channels: u8,
    ) -> Result<(Image, ContentHash), DecodeError> {
        let content = self.content(index, limits)?;
        let hash = content.hash;
        Ok((content.decode(limits, channels)?, hash))
    }

    /// Reads one item and does not decode it.
    pub(crate) fn content(&self, index: usize, limits: &DecodeLimits) -> Result<Content, DecodeError> {
        assert!(index < self.items.len(), "item {index} of {}", self.items.len());
        if let Some(bytes) = self.encoded(index, limits)? {
            return Ok(Content { hash: Sha256::digest(&bytes).into(), raw: Raw::File(bytes) });
        }
        let image = match self.store.locate(index) {
            (Store::Cifar(records), index) => records.image(index)?,
            (Store::Idx(parts), index) => idx_image(parts, index),
            _ => unreachable!("the others have encoded files"),
        };
        let hash = match &image.pixels {
            Pixels::U8(values) => Sha256::digest(values).into(),
            Pixels::U16(_) => unreachable!("IDX and CIFAR have 8 bits"),
        };
        Ok(Content { hash, raw: Raw::Image(image) })
    }

    /// The image file of an item as it is, or `None` for IDX and CIFAR, which have no files.
    ///
    /// # Errors
    /// [`DecodeError`] when it cannot be read or is too long.
    ///
    /// # Panics
    /// When `index` is not below the number of items.
    pub fn encoded(&self, index: usize, limits: &DecodeLimits) -> Result<Option<Vec<u8>>, DecodeError> {
        match self.store.locate(index) {
            (Store::Files(paths), index) => folder::read(&paths[index], limits).map(Some),
            (Store::Zip { archive, entries }, index) => archive.read(entries[index], limits).map(Some),
            _ => Ok(None),
        }
    }

    /// Size and colour of the images: exact for IDX and CIFAR, else from the headers of up to 64 images spread evenly.
    pub fn native_shape(&self) -> NativeShape {
        match self.store.base() {
            Store::Idx(parts) => shape_of(parts.iter().map(PixelArray::shape).collect()),
            Store::Cifar(_) => shape_of(vec![(cifar::SIDE, cifar::SIDE, 3)]),
            _ => {
                let limits = DecodeLimits::default();
                let n = self.items.len();
                let sample = SHAPE_SAMPLE.min(n);
                let header = |i: usize| {
                    let bytes = self.encoded(i * n / sample, &limits).ok()??;
                    probe(&bytes, &limits).ok()
                };
                shape_of((0..sample).filter_map(header).map(|h| (h.width, h.height, h.channels)).collect())
            }
        }
    }
}

fn idx_image(parts: &[PixelArray], mut index: usize) -> Image {
    for part in parts {
        if index < part.len() {
            return part.image(index);
        }
        index -= part.len();
    }
    unreachable!("the items were counted from these parts")
}

fn shape_of(shapes: Vec<(u32, u32, u8)>) -> NativeShape {
    let Some(&(width, height, _)) = shapes.first() else {
        return NativeShape { size: None, channels: 3, median: (0, 0) };
    };
    let same = shapes.iter().all(|&(w, h, _)| (w, h) == (width, height));
    let gray = shapes.iter().all(|&(_, _, channels)| channels == 1);
    let median = |mut sides: Vec<u32>| {
        sides.sort_unstable();
        sides[sides.len() / 2]
    };
    NativeShape {
        size: same.then_some((width, height)),
        channels: if gray { 1 } else { 3 },
        median: (median(shapes.iter().map(|s| s.0).collect()), median(shapes.iter().map(|s| s.1).collect())),
    }
}

fn unknown(path: &Path, found: &str) -> DatasetError {
    DatasetError::UnknownLayout { path: path.to_owned(), found: found.to_owned() }
}

/// Names of the plain files and of the folders directly inside a folder, sorted, without hidden ones.
fn names_in(path: &Path) -> Result<(Vec<String>, Vec<PathBuf>), DatasetError> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).map_err(|e| io_error(path, e))?.take(MAX_ENTRIES) {
        let entry = entry.map_err(|e| io_error(path, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_junk(&name) {
            continue;
        }
        if entry.path().is_dir() {
            folders.push(entry.path());
        } else {
            files.push(name);
        }
    }
    files.sort();
    folders.sort();
    Ok((files, folders))
}

fn open_folder(path: &Path, labelling: &Labelling) -> Result<Source, DatasetError> {
    let (files, folders) = names_in(path)?;
    if labelling.table.is_some() {
        return labelled_folder(path, folder::list(path, Depth::All)?, labelling);
    }
    if let Some(source) = open_arrays(path, &files)? {
        return Ok(source);
    }
    // Archives of MNIST and CIFAR unpack to a folder in a folder.
    if let ([inner], true) = (folders.as_slice(), files.is_empty())
        && let Some(source) = open_arrays(inner, &names_in(inner)?.0)?
    {
        return Ok(source);
    }
    let listing = folder::list(path, Depth::All)?;
    // A table with the pixels of all images in it.
    if !listing.found.iter().any(|file| file.kind == FileKind::Image)
        && let Some(table) = only_table(&files)
    {
        return open_table(&path.join(table), labelling);
    }
    labelled_folder(path, listing, labelling)
}

/// Images in a folder with labels from folders or tables.
fn labelled_folder(
    path: &Path,
    listing: folder::Listing,
    labelling: &Labelling,
) -> Result<Source, DatasetError> {
    let limits = DecodeLimits { max_bytes: table::MAX_TABLE_BYTES, ..DecodeLimits::default() };
    let read = |file: usize| folder::read(&listing.paths[file], &limits).ok();
    let arranged = arrange(path, &listing.found, &read, labelling)?;
    let paths = arranged.files.iter().map(|&i| listing.paths[i].clone()).collect();
    Ok(from_arranged(arranged, listing.notes, Store::Files(paths), None))
}

/// Arranges the files of a folder or archive. A table that was given beside them counts as one of them.
fn arrange(
    root: &Path,
    found: &[Found],
    read: &dyn Fn(usize) -> Option<Vec<u8>>,
    labelling: &Labelling,
) -> Result<Arranged, DatasetError> {
    let mut labelled = Labelled { per_image: labelling.per_image, table: None };
    let Some(table) = labelling.table else { return layout::arrange(root, found, read, labelled) };
    let length = fs::metadata(table).map_err(|e| io_error(table, e))?.len();
    if length > table::MAX_TABLE_BYTES {
        let what = format!("tables beside images go up to {} MiB", table::MAX_TABLE_BYTES >> 20);
        return Err(DatasetError::Limit { path: table.to_owned(), what });
    }
    let bytes = fs::read(table).map_err(|e| io_error(table, e))?;
    let mut all = found.to_vec();
    let path = table.file_name().unwrap_or_default().to_string_lossy().into_owned();
    all.push(Found { path, kind: FileKind::Other });
    labelled.table = Some(found.len());
    let read = |file: usize| if file == found.len() { Some(bytes.clone()) } else { read(file) };
    layout::arrange(root, &all, &read, labelled)
}

/// IDX or CIFAR files directly in a folder.
fn open_arrays(path: &Path, files: &[String]) -> Result<Option<Source>, DatasetError> {
    let images = idx::find(files);
    if !images.is_empty() {
        return idx::open_folder(path, &images).map(|set| Some(from_idx(set)));
    }
    let Some(found) = cifar::find(path, files)? else { return Ok(None) };
    let set = cifar::open(path, found)?;
    Ok(Some(Source {
        kind: "cifar",
        name: String::new(),
        classes: set.classes,
        items: set.items,
        notes: set.notes,
        store: Store::Cifar(set.records),
    }))
}

fn open_file(path: &Path, labelling: &Labelling) -> Result<Source, DatasetError> {
    let head = folder::head(path, HEAD_BYTES).map_err(|e| io_error(path, e))?;
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(format) = other_archive(&head, &name) {
        return Err(packed(path, format));
    }
    match (head.as_slice(), extension.as_str()) {
        ([b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..], _) => open_zip(path, labelling),
        _ if labelling.table.is_some() => Err(unknown(
            path,
            "a table says the labels of images in a folder or a ZIP archive, and this is neither",
        )),
        ([0, 0, 8, 1, ..], _) => {
            Err(unknown(path, "these are IDX labels; give the images file or their folder"))
        }
        ([0, 0, _, 1..=4, ..], _) => idx::open_file(path).map(from_idx),
        ([0x1f, 0x8b, ..], _) => open_gzip(path),
        (_, "csv" | "tsv") => open_table(path, labelling),
        (_, "zip") => open_zip(path, labelling),
        (_, "bin") => Err(unknown(path, "a single .bin file; give the folder that holds the CIFAR files")),
        _ => Err(unknown(
            path,
            "not a data set; give a folder or ZIP of class folders, a table of labels (CSV), or IDX or CIFAR files",
        )),
    }
}

/// A gzip file is read as IDX; a packed folder is told apart by what is inside.
fn open_gzip(path: &Path) -> Result<Source, DatasetError> {
    use std::io::Read;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    // What cannot be unpacked is reported by the IDX reader below.
    let _ = idx::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head);
    if let Some(format) = other_archive(&head, "") {
        return Err(packed(path, &format!("{format} packed with gzip")));
    }
    match head.as_slice() {
        [0, 0, 8, 1, ..] => Err(unknown(path, "these are IDX labels; give the images file or their folder")),
        [0, 0, ..] | [] => idx::open_file(path).map(from_idx),
        _ => Err(unknown(path, "a packed file that is no IDX file; unpack it and give the folder")),
    }
}

fn packed(path: &Path, format: &str) -> DatasetError {
    unknown(path, &format!("a {format}, which is not read; unpack it and give the folder"))
}

fn open_zip(path: &Path, labelling: &Labelling) -> Result<Source, DatasetError> {
    let (archive, listing) = ZipFolder::open(path)?;
    from_zip(path, (archive, listing), labelling)
}

fn from_zip(
    path: &Path,
    (archive, listing): (ZipFolder, Listing),
    labelling: &Labelling,
) -> Result<Source, DatasetError> {
    let limits = DecodeLimits { max_bytes: table::MAX_TABLE_BYTES, ..DecodeLimits::default() };
    let read = |file: usize| archive.read(listing.entries[file], &limits).ok();
    let arranged = arrange(path, &listing.found, &read, labelling)?;
    let entries = arranged.files.iter().map(|&i| listing.entries[i]).collect();
    Ok(from_arranged(arranged, listing.notes, Store::Zip { archive, entries }, Some("zip")))
}

fn open_table(path: &Path, labelling: &Labelling) -> Result<Source, DatasetError> {
    let table = table::open(path, labelling.per_image)?;
    let store = match table.images {
        Stored::Files(paths) => Store::Files(paths),
        Stored::Pixels(images) => Store::Idx(vec![images]),
    };
    Ok(Source {
        kind: "csv",
        name: String::new(),
        classes: table.classes,
        items: table.items,
        notes: table.notes,
        store,
    })
}

/// The one CSV or TSV among the files of a folder.
fn only_table(files: &[String]) -> Option<&String> {
    let mut tables = files.iter().filter(|name| {
        let lower = name.to_ascii_lowercase();
        lower.ends_with(".csv") || lower.ends_with(".tsv")
    });
    tables.next().filter(|_| tables.next().is_none())
}

fn from_arranged(
    arranged: Arranged,
    mut notes: Vec<String>,
    store: Store,
    kind: Option<&'static str>,
) -> Source {
    // How the data was read comes first.
    notes.splice(0..0, arranged.notes);
    let own = match arranged.kind {
        layout::Kind::ClassFolders => "class folders",
        layout::Kind::SplitFolders => "split folders",
        layout::Kind::Tables => "csv",
    };
    Source {
        kind: kind.unwrap_or(own),
        name: String::new(),
        classes: arranged.classes,
        items: arranged.items,
        notes,
        store,
    }
}

fn from_idx(set: IdxSet) -> Source {
    Source {
        kind: "idx",
        name: String::new(),
        classes: set.classes,
        items: set.items,
        notes: set.notes,
        store: Store::Idx(set.images),
    }
}

fn short_name(path: &Path, is_dir: bool) -> String {
    // "." and ".." have no name of their own.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = match path.file_name() {
        Some(_) => path,
        None => &real,
    };
    let name = if is_dir { name.file_name() } else { name.file_stem() };
    let clean: String = name
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(MAX_NAME)
        .collect();
    let clean = clean.trim_matches(['.', '-']);
    if clean.is_empty() { "data".to_owned() } else { clean.to_owned() }
}
