//! Arrays of Python without its C interface: what has a buffer is read through `memoryview`, numbers go out as NumPy arrays where
//! there is NumPy, as lists else.
//!
//! `Py_buffer` belongs to the stable interface from Python 3.11 on; `memoryview` always has. It costs one copy of the pixels, a few
//! microseconds beside the resampling that follows.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyList, PyMemoryView};

/// NumPy, if it can be imported; looked for once.
static NUMPY: PyOnceLock<Option<Py<PyModule>>> = PyOnceLock::new();

/// What an object's buffer holds, row by row without gaps.
pub(crate) struct Buffer {
    /// The format of an element, in the letters of Python's `struct`, its byte order left out where it is this machine's.
    pub(crate) format: String,
    /// Sizes, outermost first.
    pub(crate) shape: Vec<usize>,
    /// The elements.
    pub(crate) bytes: PyBackedBytes,
}

impl Buffer {
    /// The buffer of an object, or of the array that it makes of itself; `None` if it has neither.
    pub(crate) fn of(x: &Bound<'_, PyAny>) -> PyResult<Option<Buffer>> {
        let view = match PyMemoryView::from(x) {
            Ok(view) => view,
            Err(_) => match array_of(x)? {
                Some(array) => PyMemoryView::from(&array)?,
                None => return Ok(None),
            },
        };
        let format: String = view.getattr("format")?.extract()?;
        let native = if cfg!(target_endian = "little") { '<' } else { '>' };
        let format = format.trim_start_matches(['@', '=', native]).to_owned();
        let bytes = view.call_method0("tobytes")?.extract()?;
        Ok(Some(Buffer { format, shape: view.getattr("shape")?.extract()?, bytes }))
    }
}

/// A NumPy array of what is none but can become one, as tensors of other libraries.
fn array_of<'py>(x: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if !x.hasattr("__array__")? && !x.hasattr("__array_interface__")? {
        return Ok(None);
    }
    numpy(x.py()).map(|numpy| numpy.call_method1("asarray", (x,))).transpose()
}

fn numpy(py: Python<'_>) -> Option<&Bound<'_, PyModule>> {
    let found = NUMPY.get_or_init(py, || py.import("numpy").ok().map(Bound::unbind));
    found.as_ref().map(|numpy| numpy.bind(py))
}

/// Rows of `width` floats: an array `[rows][width]`, or `[width]` of the only row.
pub(crate) struct Rows {
    /// The values, row by row.
    pub(crate) values: Vec<f32>,
    /// The shape of a row.
    pub(crate) of_row: Vec<usize>,
    /// How many rows there are; `None` for one that is given as it is.
    pub(crate) rows: Option<usize>,
}

impl Rows {
    /// A float32 array, or nested lists.
    pub(crate) fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let shape: Vec<usize> = self.rows.into_iter().chain(self.of_row).collect();
        let Some(numpy) = numpy(py) else { return lists(py, &self.values, &shape) };
        let bytes: Vec<u8> = self.values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        // A bytearray, as an array on bytes could not be written to.
        let flat = numpy.call_method1("frombuffer", (PyByteArray::new(py, &bytes), "=f4"))?;
        flat.call_method1("reshape", (shape,))
    }
}

fn lists<'py>(py: Python<'py>, values: &[f32], shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    match shape {
        [] | [_] => Ok(PyList::new(py, values)?.into_any()),
        [count, inner @ ..] => {
            let len = values.len() / (*count).max(1);
            let items = values.chunks(len.max(1)).map(|part| lists(py, part, inner));
            Ok(PyList::new(py, items.collect::<PyResult<Vec<_>>>()?)?.into_any())
        }
    }
}
