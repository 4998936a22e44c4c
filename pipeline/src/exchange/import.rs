//! From the file of another program to a model of ours: what the file says, what a person says, and nothing guessed.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ocelli_datasets::{Fit, Preprocessing};
use ocelli_engine::model_file::{self, ModelFile, ModelMeta, MultiLabel, Origin};
use ocelli_engine::{Graph, Model, Op};
use ocelli_exchange::{Head, Import, ImportOptions, InputRule};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::pictures::drawn;
use crate::compute::Compute;
use crate::error::{Need, PipelineError};
use crate::probes;

/// Largest file that is imported: 2 GiB, what a protobuf may have.
pub const MAX_IMPORT_BYTES: u64 = 2 << 30;

/// What a person says of a file besides what is in it.
#[derive(Clone, Debug, Default)]
pub struct ImportSettings {
    /// Height and width of the input.
    pub size: Option<(u32, u32)>,
    /// The network of a file that holds weights alone.
    pub network: Option<String>,
    /// Class names in the order of the outputs.
    pub labels: Option<Vec<String>>,
    /// How values of pixels become the network's.
    pub normalization: Option<Normalization>,
    /// What happens to images of another aspect ratio.
    pub fit: Option<Fit>,
    /// What the model is called; the file's name without its ending if left out.
    pub name: Option<String>,
}

/// How values of pixels, 0..=1, become the network's.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// Subtracted from each channel, in the network's order of channels; one number is for all of them.
    pub mean: Vec<f32>,
    /// What each channel is then divided by, likewise.
    pub std: Vec<f32>,
    /// The network takes blue first and red last.
    pub blue_first: bool,
}

impl Normalization {
    /// The usual ones by their words.
    pub const WORDS: [&'static str; 5] = ["0..1", "-1..1", "0..255", "imagenet", "caffe"];

    /// A usual one by its word: the range that pixels are brought to, what torchvision's and timm's models of ImageNet take,
    /// or what Keras calls `caffe` (ResNet50, VGG16).
    pub fn named(word: &str) -> Option<Normalization> {
        let (mean, std, blue_first): ([f32; 3], [f32; 3], bool) = match word {
            "0..1" => ([0.0; 3], [1.0; 3], false),
            "-1..1" => ([0.5; 3], [0.5; 3], false),
            "0..255" => ([0.0; 3], [1.0 / 255.0; 3], false),
            "imagenet" => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], false),
            "caffe" => ([103.939, 116.779, 123.68].map(|mean| mean / 255.0), [1.0 / 255.0; 3], true),
            _ => return None,
        };
        // The same for all channels: for gray images, too.
        let list = |values: [f32; 3]| match values[0] == values[1] {
            true => vec![values[0]],
            false => values.to_vec(),
        };
        Some(Normalization { mean: list(mean), std: list(std), blue_first })
    }
}

/// Who said something of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The file.
    File,
    /// The person.
    Given,
}

/// What came of an import.
#[derive(Clone, Debug, Serialize)]
pub struct ImportReport {
    /// Format of the file.
    pub format: &'static str,
    /// The program that wrote it, with its version; may be empty.
    pub producer: String,
    /// Layers of the network.
    pub layers: usize,
    /// Numbers that can be learnt.
    pub parameters: usize,
    /// Multiply-adds of an image.
    pub macs: usize,
    /// The input: height, width, channels.
    pub input: [u32; 3],
    /// Number of classes.
    pub classes: usize,
    /// What the file's network ends with: `logits`, `softmax`, `sigmoid` (several labels an image) or `binary`.
    pub head: &'static str,
    /// Who said the class names.
    pub labels_from: Source,
    /// Who said how values of pixels become the network's.
    pub normalization_from: Source,
    /// Who said what happens to images of another aspect ratio.
    pub fit_from: Source,
    /// Whether it has scales for 8 bits.
    pub int8: bool,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Reads a model of another program. It gets probe images, drawn ones, so that later loads compare this machine's answers with
/// those of today.
///
/// # Errors
/// [`PipelineError::Exchange`] for a file that cannot be read as a model; [`PipelineError::ImportNeeds`] with all that the
/// settings have to say; [`PipelineError::LabelList`] and [`PipelineError::Dataset`] for names or normalisation that do not
/// fit; [`PipelineError::Io`].
pub fn import_model(
    path: &Path,
    settings: &ImportSettings,
    compute: Compute,
) -> Result<(ModelFile, ImportReport), PipelineError> {
    let bytes = read(path)?;
    let options = ImportOptions { size: settings.size, network: settings.network.clone() };
    let import = ocelli_exchange::import(&bytes, &options).map_err(PipelineError::Exchange)?;
    let hash: [u8; 32] = Sha256::digest(&bytes).into();
    drop(bytes);
    let shape = import.model.graph().input;
    let channels = u8::try_from(shape.c).unwrap_or(u8::MAX);
    let classes = import.model.graph().classes()?;
    let InputRule { mean_std, fit } = import.input.clone();

    let labels = settings.labels.clone().map(|labels| (labels, Source::Given));
    let labels = labels.or(import.labels.clone().map(|labels| (labels, Source::File)));
    // What the graph does itself cannot be said otherwise.
    let own = mean_std.map(|(mean, std)| (Normalization { mean, std, blue_first: false }, Source::File));
    let given = settings.normalization.clone().map(|given| (given, Source::Given));
    let normalization = given.or(own);
    let fit = settings.fit.map(|fit| (fit, Source::Given)).or(fit.map(|fit| (fit, Source::File)));
    let needs = [
        labels.is_none().then_some(Need::Labels { classes }),
        normalization.is_none().then_some(Need::Normalization { channels }),
        fit.is_none().then_some(Need::Fit),
    ];
    let (Some((labels, labels_from)), Some((normalization, normalization_from)), Some((fit, fit_from))) =
        (labels, normalization, fit)
    else {
        return Err(PipelineError::ImportNeeds { needs: needs.into_iter().flatten().collect() });
    };
    if labels.len() != classes {
        let reason = format!("{} names for the {classes} classes of the network", labels.len());
        return Err(PipelineError::LabelList { path: path.to_owned(), reason });
    }

    let mut notes = import.notes.clone();
    let Import { model, format, producer, head, temperature, thresholds, quantization, .. } = import;
    let (model, quantization) = if normalization.blue_first {
        if quantization.is_some() {
            notes.push(
                "its scales for 8 bits are left out, as channels are taken in another order".to_owned(),
            );
        }
        (with_reversed_channels(&model)?, None)
    } else {
        (model, quantization)
    };
    let preprocessing = preprocessing(&model, normalization, fit)?;
    let thresholds = thresholds.unwrap_or_else(|| vec![0.5; classes]);
    let multi_label = (head == Head::Sigmoid).then_some(MultiLabel { thresholds, quality: None });
    let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let origin = Origin::Imported(model_file::Imported {
        format: format.name().to_owned(),
        producer: producer.clone(),
        file: file_name,
        file_hash: hash,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
    });
    let name = settings.name.clone().unwrap_or(stem);
    let meta = ModelMeta {
        name,
        classes: labels,
        preprocessing: preprocessing.clone(),
        metrics: None,
        temperature,
        rejection: None,
        multi_label,
        origin,
    };
    let mut file = ModelFile { quantization, ..ModelFile::new(model, meta) };
    let pictures = (0..model_file::MAX_PROBES as u64).map(|number| drawn(&preprocessing, number));
    file.probes = probes::ask_about(&file, pictures.collect(), &compute.exec()?)?;
    let graph = file.model.graph();
    let report = ImportReport {
        format: format.name(),
        producer,
        layers: graph.nodes.len(),
        parameters: file.model.layout().count(),
        macs: macs(graph)?,
        input: [shape.h, shape.w, shape.c],
        classes,
        head: match head {
            Head::Logits => "logits",
            Head::Softmax => "softmax",
            Head::Sigmoid => "sigmoid",
            Head::Binary => "binary",
        },
        labels_from,
        normalization_from,
        fit_from,
        int8: file.quantization.is_some(),
        notes,
    };
    Ok((file, report))
}

fn read(path: &Path) -> Result<Vec<u8>, PipelineError> {
    let metadata = fs::metadata(path).map_err(PipelineError::io(path))?;
    let refuse =
        |reason: String| PipelineError::Exchange(ocelli_exchange::ExchangeError::UnknownFormat(reason));
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file: give the model's file".to_owned()));
    }
    if metadata.len() > MAX_IMPORT_BYTES {
        return Err(refuse(format!("{} bytes are more than {MAX_IMPORT_BYTES}", metadata.len())));
    }
    fs::read(path).map_err(PipelineError::io(path))
}

fn preprocessing(
    model: &Model,
    normalization: Normalization,
    fit: Fit,
) -> Result<Preprocessing, PipelineError> {
    let input = model.graph().input;
    let n = input.c as usize;
    let wrong =
        |what: String| PipelineError::Dataset(ocelli_datasets::DatasetError::BadPreprocessing { what });
    let channels = u8::try_from(n).map_err(|_| wrong(format!("{n} channels are too many")))?;
    let spread = |what: &str, mut values: Vec<f32>| {
        if values.len() == 1 {
            values = vec![values[0]; n];
        }
        if values.len() != n {
            return Err(wrong(format!("{} numbers as the {what} of {n} channels", values.len())));
        }
        if normalization.blue_first {
            values.reverse();
        }
        Ok(values)
    };
    let (mean, std) =
        (spread("mean", normalization.mean.clone())?, spread("std", normalization.std.clone())?);
    let preprocessing = Preprocessing { width: input.w, height: input.h, channels, fit, mean, std };
    preprocessing.check().map_err(wrong)?;
    Ok(preprocessing)
}

/// The same network for images whose channels come in the other order.
fn with_reversed_channels(model: &Model) -> Result<Model, PipelineError> {
    let mut graph = Graph::new(model.graph().input);
    let channels = (0..graph.input.c).rev().collect();
    graph.then("channels_reversed", Op::ChannelGather { channels });
    for node in &model.graph().nodes {
        let inputs: Vec<u32> = node.inputs.iter().map(|&value| value + 1).collect();
        graph.push(node.name.clone(), node.op.clone(), &inputs);
    }
    let mut reversed = Model::zeros(graph)?;
    for entry in model.layout().entries() {
        let own = reversed.layout().entries().iter().find(|own| own.name == entry.name);
        let range = own.expect("the same layers, by the same names").range();
        reversed.params_mut()[range].copy_from_slice(&model.params()[entry.range()]);
    }
    Ok(reversed)
}

fn macs(graph: &Graph) -> Result<usize, PipelineError> {
    let shapes = graph.shapes()?;
    let layers = graph.nodes.iter().zip(&shapes[1..]);
    Ok(layers
        .map(|(node, &y)| node.op.macs(shapes[node.inputs[0] as usize], y))
        .fold(0, usize::saturating_add))
}
