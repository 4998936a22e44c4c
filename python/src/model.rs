//! A model that answers, and how it is opened.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use ocelli_datasets::Prepare;
use ocelli_engine::{Isa, Pool, Precision};
use ocelli_pipeline as pipeline;
use pipeline::{Compute, Decoder, PipelineError, Predictor, Prepared, pool};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::answer::Prediction;
use crate::arrays::{Buffer, Rows};
use crate::error::{refused, told};
use crate::input::{Given, Source, prepare};
use crate::process;

/// Images decoded at a time, then computed as one batch.
const CHUNK: usize = 64;

/// How an image becomes the input of a network.
#[pyclass(frozen, get_all, module = "ocelli")]
pub(crate) struct Preprocessing {
    /// Width of the input in pixels.
    width: u32,
    /// Height of the input in pixels.
    height: u32,
    /// 1 (gray), 3 (RGB), or as many as each pixel has.
    channels: u8,
    /// What happens to images of another aspect ratio: `stretch`, `crop` or `pad`.
    fit: String,
    /// Subtracted from each channel, on the scale 0..=1.
    mean: Vec<f32>,
    /// Each channel is divided by it after that.
    std: Vec<f32>,
}

#[pymethods]
impl Preprocessing {
    fn __repr__(&self) -> String {
        let Preprocessing { width, height, channels, fit, mean, std } = self;
        format!(
            "Preprocessing(width={width}, height={height}, channels={channels}, fit={fit:?}, mean={mean:?}, std={std:?})"
        )
    }
}

/// Opens a model: a `.ocelli` file, a run folder, or one of the models inside of this module, "imagenet" and "fashion-mnist".
///
/// `threads` is how many threads compute, 0 for all cores; `precision` is "auto", "f32", "bf16" or "int8"; `exact` computes all
/// convolutions directly; `tta` averages over each image and its mirror image. They are the options of `ocelli predict`.
#[pyfunction]
#[pyo3(signature = (path, *, threads = 0, precision = "auto", exact = false, tta = false))]
pub(crate) fn load(
    py: Python<'_>,
    path: PathBuf,
    threads: usize,
    precision: &str,
    exact: bool,
    tta: bool,
) -> PyResult<Model> {
    process::check()?;
    let Some(precision) = Precision::by_name(precision) else {
        return Err(told(format!("precision {precision:?}: choose one of {}", Precision::NAMES.join(", "))));
    };
    py.detach(|| {
        let isa = Isa::best().map_err(|error| refused(&error))?;
        let compute = Compute { threads, exact, precision: precision.resolve(isa) };
        let mut predictor = Predictor::open(&path, compute).map_err(|error| refused(&error))?;
        if precision == Precision::Int8 && predictor.precision() != Precision::Int8 {
            return Err(told(format!(
                "{} has no int8 scales; `ocelli quantize MODEL DATA` makes them; precision \"f32\" needs none",
                path.display()
            )));
        }
        if tta {
            predictor.average_mirrored().map_err(|error| refused(&error))?;
        }
        Ok(Model::new(predictor))
    })
}

/// A model that answers. Several threads may use it at once: they decode side by side and compute one after the other, each with
/// all threads of the model.
#[pyclass(frozen, module = "ocelli")]
pub(crate) struct Model {
    predictor: Mutex<Predictor>,
    decoder: Decoder,
    pool: Pool,
    /// Name, version, classes: what does not change.
    facts: Facts,
}

struct Facts {
    name: String,
    version: String,
    classes: Vec<String>,
    parameters: usize,
    temperature: Option<f32>,
    has_labels: bool,
}

impl Model {
    fn new(predictor: Predictor) -> Model {
        let meta = predictor.meta();
        let facts = Facts {
            name: meta.name.clone(),
            version: predictor.version().to_owned(),
            classes: meta.classes.clone(),
            parameters: predictor.parameters(),
            temperature: meta.temperature,
            has_labels: meta.multi_label.is_some(),
        };
        let (decoder, pool) = (predictor.decoder(), predictor.exec().pool.clone());
        Model { predictor: Mutex::new(predictor), decoder, pool, facts }
    }

    fn predictor(&self) -> PyResult<MutexGuard<'_, Predictor>> {
        self.predictor
            .lock()
            .map_err(|_| told("an earlier call to this model broke off in the middle: open it again"))
    }

    /// Decodes images chunk by chunk and lets `compute` answer each chunk. Runs without Python's lock; between two chunks Ctrl-C is
    /// looked for.
    fn chunks(
        &self,
        py: Python<'_>,
        given: &Given,
        mut compute: impl FnMut(&[Prepared]) -> PyResult<()> + Send,
    ) -> PyResult<()> {
        process::check()?;
        let sources = match given {
            Given::One(source) => std::slice::from_ref(source),
            Given::Several(sources) => sources,
        };
        py.detach(|| {
            for (number, chunk) in sources.chunks(CHUNK).enumerate() {
                if number > 0 {
                    Python::attach(|py| py.check_signals())?;
                }
                compute(&self.prepared(chunk, number * CHUNK, matches!(given, Given::Several(_)))?)?;
            }
            Ok(())
        })
    }

    /// A chunk that begins with image `first`, decoded.
    fn prepared(&self, chunk: &[Source], first: usize, numbered: bool) -> PyResult<Vec<Prepared>> {
        // A thread of the pool would have to wake up for it.
        let results = match chunk {
            [source] => vec![prepare(source, &self.decoder)],
            _ => pool::map(&self.pool, chunk, |source| prepare(source, &self.decoder))
                .map_err(|error| refused(&error))?,
        };
        let named = |(i, result): (usize, Result<Prepared, String>)| {
            result.map_err(|text| told(if numbered { format!("image {}: {text}", first + i) } else { text }))
        };
        results.into_iter().enumerate().map(named).collect()
    }

    /// What each image gets, `width` floats, by a method of the predictor that appends them.
    fn floats(
        &self,
        py: Python<'_>,
        (given, width): (&Given, usize),
        append: impl Fn(&mut Predictor, &[Prepared], &mut Vec<f32>) -> Result<(), PipelineError> + Send + Sync,
    ) -> PyResult<Rows> {
        let mut values = Vec::new();
        self.chunks(py, given, |images| {
            append(&mut *self.predictor()?, images, &mut values).map_err(|error| refused(&error))
        })?;
        let rows = match given {
            Given::One(_) => None,
            Given::Several(sources) => Some(sources.len()),
        };
        Ok(Rows { values, of_row: vec![width], rows })
    }
}

#[pymethods]
impl Model {
    /// Says what an image shows, or each of several: as `ocelli predict --json` does, with the `top_k` likeliest classes.
    #[pyo3(signature = (x, top_k = 5))]
    fn predict<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        top_k: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        if top_k == 0 {
            return Err(told("top_k: give a number from 1 on"));
        }
        let given = Given::read(x)?;
        let mut found = Vec::new();
        self.chunks(py, &given, |images| {
            found.extend(self.predictor()?.predict_prepared(images, top_k).map_err(|error| refused(&error))?);
            Ok(())
        })?;
        let mut answers = found.into_iter().map(|prediction| Py::new(py, Prediction::new(py, prediction)?));
        match given {
            Given::One(_) => {
                let answer = answers.next().expect("one image has one answer")?;
                Ok(answer.into_bound(py).into_any())
            }
            Given::Several(_) => Ok(PyList::new(py, answers.collect::<PyResult<Vec<_>>>()?)?.into_any()),
        }
    }

    /// Probabilities of all classes, in the order of `classes`: a float32 array [classes], of several images [n, classes].
    fn probabilities<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (given, classes) = (Given::read(x)?, self.facts.classes.len());
        let rows = self.floats(py, (&given, classes), |predictor, images, values| {
            for prediction in predictor.predict_prepared(images, classes)? {
                let start = values.len();
                values.resize(start + classes, 0.0);
                prediction.top.iter().for_each(|ranked| values[start + ranked.index] = ranked.probability);
            }
            Ok(())
        })?;
        rows.into_python(py)
    }

    /// What the last dense layer reads of an image: a float32 array [features], of several images [n, features].
    fn embed<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let given = Given::read(x)?;
        let len = py.detach(|| self.predictor()?.feature_len().map_err(|error| refused(&error)))?;
        self.floats(py, (&given, len), Predictor::features)?.into_python(py)
    }

    /// The input of the network for an image, resized and normalised: a float32 array [h, w, c], of several images [n, h, w, c].
    fn prepare<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (given, pre) = (Given::read(x)?, self.decoder.preprocessing());
        let rows = self.floats(py, (&given, pre.len()), |_, images, values| {
            for image in images {
                let start = values.len();
                values.resize(start + pre.len(), 0.0);
                pre.normalize(image, &mut values[start..]);
            }
            Ok(())
        })?;
        let of_row = vec![pre.height as usize, pre.width as usize, pre.channels.into()];
        Rows { of_row, ..rows }.into_python(py)
    }

    /// Logits of a float32 array [h, w, c] or [n, h, w, c] that is normalised already, as `prepare` gives it: a float32 array
    /// [classes] or [n, classes], not divided by the temperature.
    fn logits<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        process::check()?;
        let pre = self.decoder.preprocessing();
        let of_image = [pre.height as usize, pre.width as usize, pre.channels.into()];
        let wanted = || {
            format!("a float32 array of shape {of_image:?}, or several images in one more dimension before")
        };
        let Some(Buffer { format, shape, bytes }) = Buffer::of(x)? else {
            return Err(pyo3::exceptions::PyTypeError::new_err(format!("logits takes {}", wanted())));
        };
        let rows = match shape[..] {
            [h, w, c] if [h, w, c] == of_image => None,
            [n, h, w, c] if [h, w, c] == of_image => Some(n),
            _ => return Err(told(format!("logits takes {}, not of shape {shape:?}", wanted()))),
        };
        if format != "f" {
            return Err(told(format!("logits takes {}, not of type {format:?}", wanted())));
        }
        let values = py.detach(|| {
            let x: Vec<f32> =
                bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect();
            self.predictor()?.logits(&x).map_err(|error| refused(&error))
        })?;
        Rows { values, of_row: vec![self.facts.classes.len()], rows }.into_python(py)
    }

    /// Names of the classes, in the order of the logits.
    #[getter]
    fn classes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.facts.classes)
    }

    /// How an image becomes the input of the network.
    #[getter]
    fn preprocessing(&self) -> Preprocessing {
        let pre = self.decoder.preprocessing();
        Preprocessing {
            width: pre.width,
            height: pre.height,
            channels: pre.channels,
            fit: pre.fit.to_string(),
            mean: pre.mean.clone(),
            std: pre.std.clone(),
        }
    }

    /// The first 12 hexadecimal digits of the model's SHA-256.
    #[getter]
    fn version(&self) -> &str {
        &self.facts.version
    }

    /// The name of the model, for people.
    #[getter]
    fn name(&self) -> &str {
        &self.facts.name
    }

    /// How many numbers it has learnt.
    #[getter]
    fn parameters(&self) -> usize {
        self.facts.parameters
    }

    /// What logits are divided by before they become probabilities; `None` leaves them as they are.
    #[getter]
    fn temperature(&self) -> Option<f32> {
        self.facts.temperature
    }

    /// Whether an image may have any number of the model's classes.
    #[getter]
    fn multi_label(&self) -> bool {
        self.facts.has_labels
    }

    /// How many threads compute.
    #[getter]
    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn __repr__(&self) -> String {
        let pre = self.decoder.preprocessing();
        format!(
            "<ocelli.Model {:?}, version {}: {} classes, input {}x{}x{}>",
            self.facts.name,
            self.facts.version,
            self.facts.classes.len(),
            pre.width,
            pre.height,
            pre.channels
        )
    }
}
