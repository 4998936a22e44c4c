//! Embeddings as files: a NumPy array, or a table.

use std::io::{self, Write};

use super::embeddings::Embeddings;
use crate::csv;
use ocelli_common::npy;

impl Embeddings {
    /// Writes the features as a NumPy array of `float32`, `(images, features)`, in format version 1.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_npy(&self, out: &mut impl Write) -> io::Result<()> {
        npy::write(out, &[self.images(), self.len], &self.features)
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
