//! Embeddings as files: a NumPy array, or a table.

use std::io::{self, Write};

use super::embeddings::Embeddings;
use crate::csv;

/// Starts every `.npy` file of version 1.
const NPY_MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// The array of an `.npy` file starts at a multiple of this.
const NPY_ALIGN: usize = 64;

impl Embeddings {
    /// Writes the features as a NumPy array of `float32`, `(images, features)`, in format version 1.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_npy(&self, out: &mut impl Write) -> io::Result<()> {
        let shape = format!("({}, {})", self.images(), self.len);
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        // Magic, length in two bytes, header, spaces, a line break.
        let start = NPY_MAGIC.len() + 2 + header.len() + 1;
        header.extend(std::iter::repeat_n(' ', start.next_multiple_of(NPY_ALIGN) - start));
        header.push('\n');
        let len = u16::try_from(header.len()).expect("two numbers take less than a hundred bytes");
        out.write_all(NPY_MAGIC)?;
        out.write_all(&len.to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        self.features.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
    }

    /// Writes the names of the images and, where there are labels, their classes, a line for each row of the features.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_names(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.head())?;
        (0..self.images()).try_for_each(|index| writeln!(out, "{}", self.name_cells(index)))
    }

    /// Writes names, classes and features as one table.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_csv(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{}", self.head())?;
        (0..self.len).try_for_each(|feature| write!(out, ",f{feature}"))?;
        writeln!(out)?;
        for index in 0..self.images() {
            write!(out, "{}", self.name_cells(index))?;
            self.row(index).iter().try_for_each(|value| write!(out, ",{value}"))?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn head(&self) -> &'static str {
        if self.labels.is_empty() { "name" } else { "name,class" }
    }

    fn name_cells(&self, index: usize) -> String {
        let mut cells = String::new();
        csv::field(&mut cells, &self.names[index]);
        if let Some(class) = self.class(index) {
            cells.push(',');
            csv::field(&mut cells, class);
        }
        cells
    }
}
