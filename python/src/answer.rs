//! What a model says of an image, as Python objects with the fields of `ocelli predict --json`.

use ocelli_pipeline as pipeline;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The number that a float is in JSON: the shortest that is read back as the same float, as `ocelli predict --json` writes it.
fn as_written(value: f32) -> f64 {
    value.to_string().parse().expect("a float that was written is a number")
}

/// One class with its probability.
#[pyclass(frozen, get_all, module = "ocelli")]
pub(crate) struct Ranked {
    /// Class name.
    label: String,
    /// Index of the class in `Model.classes`.
    index: usize,
    /// Probability in 0..=1.
    probability: f64,
}

#[pymethods]
impl Ranked {
    fn __repr__(&self) -> String {
        format!("Ranked({:?}, {:.4})", self.label, self.probability)
    }

    /// The fields as a dictionary.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("label", &self.label)?;
        dict.set_item("index", self.index)?;
        dict.set_item("probability", self.probability)?;
        Ok(dict)
    }
}

impl From<pipeline::Ranked> for Ranked {
    fn from(ranked: pipeline::Ranked) -> Self {
        let pipeline::Ranked { label, index, probability } = ranked;
        Ranked { label, index, probability: as_written(probability) }
    }
}

/// One label of an image that may have several.
#[pyclass(frozen, get_all, module = "ocelli")]
pub(crate) struct LabelAnswer {
    /// The label.
    label: String,
    /// Its index in `Model.classes`.
    index: usize,
    /// Its probability by itself, in 0..=1.
    probability: f64,
    /// The probability from which the image has it.
    threshold: f64,
    /// Whether it has.
    applies: bool,
}

#[pymethods]
impl LabelAnswer {
    fn __repr__(&self) -> String {
        format!("LabelAnswer({:?}, {:.4}, applies={})", self.label, self.probability, python(self.applies))
    }

    /// The fields as a dictionary.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("label", &self.label)?;
        dict.set_item("index", self.index)?;
        dict.set_item("probability", self.probability)?;
        dict.set_item("threshold", self.threshold)?;
        dict.set_item("applies", self.applies)?;
        Ok(dict)
    }
}

impl From<pipeline::LabelAnswer> for LabelAnswer {
    fn from(answer: pipeline::LabelAnswer) -> Self {
        let pipeline::LabelAnswer { label, index, probability, threshold, applies } = answer;
        let (probability, threshold) = (as_written(probability), as_written(threshold));
        LabelAnswer { label, index, probability, threshold, applies }
    }
}

/// What a model says of one image.
#[pyclass(frozen, get_all, module = "ocelli")]
pub(crate) struct Prediction {
    /// Name of the most likely class.
    label: String,
    /// Its index in `Model.classes`.
    index: usize,
    /// Its probability in 0..=1.
    probability: f64,
    /// Whether the image looks like a class of the model at all.
    known: bool,
    /// How little it looks like any class; `None` for a model that learnt no threshold.
    score: Option<f64>,
    /// The most likely classes, most likely first.
    top: Vec<Py<Ranked>>,
    /// All labels, of a model that says any number of them; `None` for others.
    labels: Option<Vec<Py<LabelAnswer>>>,
}

impl Prediction {
    /// As a Python object.
    pub(crate) fn new(py: Python<'_>, prediction: pipeline::Prediction) -> PyResult<Self> {
        let pipeline::Prediction { label, index, probability, known, score, top, labels } = prediction;
        let top = top.into_iter().map(|ranked| Py::new(py, Ranked::from(ranked))).collect::<PyResult<_>>()?;
        let all = |labels: Vec<pipeline::LabelAnswer>| {
            labels.into_iter().map(|label| Py::new(py, LabelAnswer::from(label))).collect::<PyResult<_>>()
        };
        let labels = labels.map(all).transpose()?;
        let (probability, score) = (as_written(probability), score.map(as_written));
        Ok(Prediction { label, index, probability, known, score, top, labels })
    }
}

#[pymethods]
impl Prediction {
    fn __repr__(&self) -> String {
        let unknown = if self.known { "" } else { ", known=False" };
        format!("Prediction({:?}, {:.4}{unknown})", self.label, self.probability)
    }

    /// The fields as a dictionary: what `ocelli predict --json` writes, without the path.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("label", &self.label)?;
        dict.set_item("index", self.index)?;
        dict.set_item("probability", self.probability)?;
        dict.set_item("known", self.known)?;
        if let Some(score) = self.score {
            dict.set_item("score", score)?;
        }
        let top = self.top.iter().map(|ranked| ranked.get().to_dict(py));
        dict.set_item("top", PyList::new(py, top.collect::<PyResult<Vec<_>>>()?)?)?;
        if let Some(labels) = &self.labels {
            let labels = labels.iter().map(|label| label.get().to_dict(py));
            dict.set_item("labels", PyList::new(py, labels.collect::<PyResult<Vec<_>>>()?)?)?;
        }
        Ok(dict)
    }
}

fn python(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}
