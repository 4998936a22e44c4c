//! HDF5 files: the one place that names the library, `hdf5-pure`.
//!
//! The file is untrusted. The library reads it through [`Counted`], which serves no more bytes for one request than the file
//! is large, so that tables that name the same bytes again and again cannot make it allocate without end. Arrays are read
//! only after their shape was compared with the one that the caller expects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdf5_pure::{AttrValue, File, FileBuilder, FormatError, GroupBuilder, Source};

/// The eight bytes that begin a file.
pub(super) const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// Most groups and arrays that are listed below one group.
const MAX_MEMBERS: usize = 16_384;
/// How deep groups are looked into.
const MAX_DEPTH: usize = 16;
/// Bytes that a request may read of small files, whose tables are read several times.
const LEAST_BYTES: u64 = 1 << 19;

/// The bytes of a file, and how many of them the present request may still read.
struct Counted {
    bytes: Vec<u8>,
    left: AtomicU64,
}

/// What the library owns of them.
struct Reader(Arc<Counted>);

impl Source for Reader {
    fn len(&self) -> u64 {
        self.0.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        let Counted { bytes, left } = &*self.0;
        let most = left.load(Ordering::Relaxed);
        let rest = most.checked_sub(buf.len() as u64);
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| bytes.get(start..start.checked_add(buf.len())?));
        let (Some(rest), Some(range)) = (rest, range) else {
            return Err(FormatError::UnexpectedEof { expected: buf.len(), available: bytes.len() });
        };
        left.store(rest, Ordering::Relaxed);
        buf.copy_from_slice(range);
        Ok(())
    }
}

/// An open file. Errors are sentences without the file's name.
pub(super) struct Hdf5 {
    file: File,
    source: Arc<Counted>,
}

impl Hdf5 {
    /// Opens the bytes of a file.
    pub(super) fn open(bytes: Vec<u8>) -> Result<Self, String> {
        let left = AtomicU64::new(allowance(bytes.len()));
        let source = Arc::new(Counted { bytes, left });
        let file = File::from_source(Reader(Arc::clone(&source))).map_err(|error| error.to_string())?;
        Ok(Hdf5 { file, source })
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> usize {
        self.source.bytes.len()
    }

    /// A text attribute of the file's root.
    pub(super) fn root_text(&self, name: &str) -> Result<Option<String>, String> {
        self.begin();
        let attributes = self.file.root().attrs().map_err(|error| error.to_string())?;
        Ok(attributes.get(name).and_then(AttrValue::as_str).map(str::to_owned))
    }

    /// Whether there is such a group.
    pub(super) fn has_group(&self, path: &str) -> bool {
        self.begin();
        self.file.group(path).is_ok_and(|group| group.groups().is_ok())
    }

    /// Paths of all arrays at any depth below a group, relative to it.
    pub(super) fn arrays(&self, path: &str) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), 0)];
        while let Some((prefix, depth)) = open.pop() {
            self.begin();
            let here = format!("{path}/{prefix}");
            let group = self.file.group(here.trim_end_matches('/')).map_err(|error| error.to_string())?;
            let datasets = group.datasets().map_err(|error| error.to_string())?;
            found.extend(datasets.iter().map(|name| format!("{prefix}{name}")));
            let groups = group.groups().map_err(|error| error.to_string())?;
            open.extend(groups.iter().map(|name| (format!("{prefix}{name}/"), depth + 1)));
            if found.len() + open.len() > MAX_MEMBERS || depth > MAX_DEPTH {
                return Err(format!("`{path}` holds more than {MAX_MEMBERS} groups and arrays"));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The numbers of an array of this shape.
    pub(super) fn floats(&self, path: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        self.begin();
        let say = |error: hdf5_pure::Error| format!("`{path}`: {error}");
        let dataset = self.file.dataset(path).map_err(say)?;
        let found = dataset.shape().map_err(say)?;
        if found.len() != shape.len() || found.iter().zip(shape).any(|(a, b)| *a != *b as u64) {
            return Err(format!("`{path}` has the shape {found:?}, the layer needs {shape:?}"));
        }
        let count = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
        let bytes = count.and_then(|count| count.checked_mul(4));
        let element = dataset.element_size().map_err(say)?;
        // Compressed arrays may be larger than their file, up to a point.
        let most = 2 * self.len() + LEAST_BYTES as usize;
        if bytes.is_none_or(|bytes| bytes > most) || element > 8 {
            return Err(format!("`{path}` of shape {shape:?} is larger than its file accounts for"));
        }
        let values = dataset.read_f32().map_err(say)?;
        if Some(values.len()) != count {
            return Err(format!("`{path}` holds {} numbers, not those of {shape:?}", values.len()));
        }
        Ok(values)
    }

    fn begin(&self) {
        self.source.left.store(allowance(self.len()), Ordering::Relaxed);
    }
}

/// Bytes that one request may read of a file of `len` bytes.
fn allowance(len: usize) -> u64 {
    2 * len as u64 + LEAST_BYTES
}

/// A group to write: arrays and groups by name.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) arrays: Vec<(String, Vec<u64>, Vec<f32>)>,
    pub(super) groups: Vec<(String, Tree)>,
}

/// The bytes of a file with these groups.
pub(super) fn write(tree: Tree) -> Result<Vec<u8>, String> {
    let mut builder = FileBuilder::new();
    for (name, child) in tree.groups {
        let mut group = builder.create_group(&name);
        fill(&mut group, child);
        builder.add_group(group.finish());
    }
    builder.finish().map_err(|error| error.to_string())
}

fn fill(group: &mut GroupBuilder, tree: Tree) {
    for (name, shape, values) in tree.arrays {
        group.create_dataset(&name).with_f32_data(&values).with_shape(&shape);
    }
    for (name, child) in tree.groups {
        let mut inner = group.create_group(&name);
        fill(&mut inner, child);
        group.add_group(inner.finish());
    }
}
