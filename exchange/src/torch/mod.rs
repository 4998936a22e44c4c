//! State dicts of PyTorch: weights by name, in the files of `torch.save` and of safetensors.
//!
//! | file | what it knows |
//! |---|---|
//! | `pickle` | a stack machine that runs nothing |
//! | `state` | both forms of `torch.save`, wrappers, prefixes: down to tensors by name |
//! | `safetensors` | the library, and our metadata |
//! | `names` | the zoo's networks as torchvision and timm name their layers |
//! | `tensor`, `weights` | numbers through strides; PyTorch's shapes and order |

mod names;
mod pickle;
mod safetensors;
mod state;
mod tensor;
#[cfg(test)]
mod tests;
mod weights;

use ocelli_engine::geometry::Shape;

use crate::archive;
use crate::error::ExchangeError;
use crate::imported::{Format, Head, Import, ImportOptions, InputRule};

pub(crate) use safetensors::{is_safetensors, write as write_safetensors};
use tensor::Tensor;
use weights::Tensors;

/// Whether bytes begin like a file of `torch.save`.
pub(crate) fn is_state_dict(bytes: &[u8]) -> bool {
    /// The first member is the pickle, in a folder with a short name.
    const FIRST_NAME: usize = 512;
    let first = &bytes[..bytes.len().min(FIRST_NAME)];
    let has_pickle = || first.windows(9).any(|window| window == b"/data.pkl");
    state::is_legacy(bytes) || archive::is_archive(bytes) && has_pickle()
}

/// Reads a file of `torch.save`.
///
/// # Errors
/// [`ExchangeError`].
pub(crate) fn import_torch(bytes: &[u8], options: &ImportOptions) -> Result<Import, ExchangeError> {
    let format = Format::Torch;
    let state =
        state::read(bytes).map_err(|reason| ExchangeError::Damaged { format: format.name(), reason })?;
    let import = of_zoo(format, &state.tensors, options)?;
    Ok(Import { notes: [state.notes, import.notes].concat(), ..import })
}

/// Reads a file of safetensors: one of ours by its metadata, any other by its names.
///
/// # Errors
/// [`ExchangeError`].
pub(crate) fn import_safetensors(bytes: &[u8], options: &ImportOptions) -> Result<Import, ExchangeError> {
    let format = Format::Safetensors;
    let contents = safetensors::read(bytes)?;
    let producer = contents.producer;
    let Some(said) = contents.said.filter(|_| options.network.is_none()) else {
        let import = of_zoo(format, &state::named(contents.tensors), options)?;
        return Ok(Import { producer, ..import });
    };
    let mut graph = said.graph;
    if let Some((h, w)) = options.size {
        (graph.input.h, graph.input.w) = (h, w);
    }
    let model = weights::model(format.name(), graph, &contents.tensors, |entry| {
        let (node, _) = entry.name.rsplit_once('.').expect("names of parameters end with their kind");
        format!("{node}.{}", weights::suffix(entry.kind))
    })?;
    let input = said.preprocessing.map_or_else(InputRule::default, |preprocessing| InputRule {
        mean_std: Some((preprocessing.mean, preprocessing.std)),
        fit: Some(preprocessing.fit),
    });
    Ok(Import {
        model,
        format,
        producer,
        head: if said.several { Head::Sigmoid } else { Head::Logits },
        labels: said.classes,
        input,
        temperature: said.temperature,
        thresholds: said.thresholds,
        quantization: None,
        notes: Vec::new(),
    })
}

/// The network of the zoo that tensors are of.
fn of_zoo(format: Format, tensors: &Tensors<'_>, options: &ImportOptions) -> Result<Import, ExchangeError> {
    let damaged = |reason: String| ExchangeError::Damaged { format: format.name(), reason };
    if tensors.is_empty() {
        return Err(damaged("the file holds no tensor".to_owned()));
    }
    let found = names::find(options.network.as_deref(), tensors)?;
    let (channels, classes) = found.ends(tensors).map_err(damaged)?;
    let Some((h, w)) = options.size else {
        let (what, usual) = (found.describe(), found.usual_size());
        return Err(ExchangeError::Missing {
            what: format!(
                "a state dict does not say how large its images are: say it; {what}, usually has {usual}x{usual} pixels"
            ),
            option: "size",
        });
    };
    let graph = found.graph(Shape::new(h as usize, w as usize, channels), classes)?;
    let model = weights::model(format.name(), graph, tensors, |entry| found.tensor(entry))?;
    let types: std::collections::BTreeSet<&str> =
        tensors.values().flatten().map(|tensor: &Tensor<'_>| tensor.dtype.name()).collect();
    let mut notes = vec![format!("{}: {classes} classes, {channels} channels", found.describe())];
    let unread = tensors.iter().filter_map(|(name, tensor)| Some((name, tensor.as_ref().err()?)));
    notes.extend(unread.take(5).map(|(name, reason)| format!("left out: `{name}` {reason}")));
    if !types.contains("float32") || types.len() > 1 {
        let types: Vec<&str> = types.into_iter().collect();
        notes.push(format!("numbers of {} became float32", types.join(", ")));
    }
    Ok(Import {
        model,
        format,
        producer: String::new(),
        head: Head::Logits,
        labels: None,
        input: InputRule::default(),
        temperature: None,
        thresholds: None,
        quantization: None,
        notes,
    })
}
