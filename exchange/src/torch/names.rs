//! Networks of the zoo as PyTorch's libraries name their layers.
//!
//! A state dict holds names and shapes alone: they tell which network it is, how many classes it has and how many channels
//! its images, but not how large its images are, how they are padded and what its normalisations add to the variance.

use ocelli_engine::geometry::Shape;
use ocelli_engine::graph::{Graph, Op, Padding};
use ocelli_engine::{ParamEntry, ParamLayout, zoo};

use super::weights::{Tensors, suffix};
use crate::error::ExchangeError;

/// Whose names the layers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// Those of our graphs, which our exports have.
    Own,
    /// `torchvision.models`; timm's ResNets have the same.
    Torchvision,
    /// timm, <https://github.com/huggingface/pytorch-image-models>.
    Timm,
}

/// A network of the zoo under somebody's names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// What the zoo calls it.
    network: &'static str,
    names: Names,
    /// Whether it is EfficientNet-Lite as timm trains it: padded on all sides alike, with PyTorch's epsilon. The zoo has
    /// TensorFlow's.
    symmetric: bool,
}

/// All names that are known, with those that option `network` may give beside the zoo's.
const CANDIDATES: [(Candidate, &[&str]); 10] = {
    const fn of(network: &'static str, names: Names) -> Candidate {
        Candidate { network, names, symmetric: false }
    }
    [
        (of("resnet18", Names::Torchvision), &[]),
        (of("mobilenet-v2", Names::Torchvision), &["mobilenet_v2"]),
        (of("mobilenet-v2", Names::Timm), &["mobilenetv2_100"]),
        (of("efficientnet-lite0", Names::Timm), &["tf_efficientnet_lite0"]),
        (of("keras-cnn", Names::Own), &[]),
        (of("cifar-fast", Names::Own), &[]),
        (of("resnet9", Names::Own), &[]),
        (of("resnet18", Names::Own), &[]),
        (of("mobilenet-v2", Names::Own), &[]),
        (of("efficientnet-lite0", Names::Own), &[]),
    ]
};

/// The name of timm's own EfficientNet-Lite0, whose tensors look like those of TensorFlow's.
const SYMMETRIC_LITE: &str = "efficientnet_lite0";

/// Repeats of the blocks of MobileNetV2's stages.
const MOBILENET_REPEATS: [usize; 7] = [1, 2, 3, 4, 3, 3, 1];

impl Candidate {
    /// What messages call it.
    pub(super) fn describe(self) -> String {
        let names = match self.names {
            Names::Own => "this program's",
            Names::Torchvision if self.network == "resnet18" => "torchvision's and timm's",
            Names::Torchvision => "torchvision's",
            Names::Timm => "timm's",
        };
        let variant = if self.symmetric { " padded as in PyTorch" } else { "" };
        format!("{}{variant}, by {names} names", self.network)
    }

    /// Side of the images that it was made for.
    pub(super) fn usual_size(self) -> u32 {
        match self.network {
            "keras-cnn" => 28,
            "cifar-fast" | "resnet9" => 32,
            _ => 224,
        }
    }

    /// The network for images of a size.
    ///
    /// # Errors
    /// Those of [`zoo::build`].
    pub(super) fn graph(self, input: Shape, classes: usize) -> Result<Graph, ExchangeError> {
        let mut graph = zoo::build(self.network, input, classes)?;
        if self.symmetric {
            for node in &mut graph.nodes {
                match &mut node.op {
                    Op::Conv2d(conv) => {
                        let [kh, kw] = conv.kernel.map(|k| k / 2);
                        conv.padding = Padding::Explicit([kh, kh, kw, kw]);
                    }
                    Op::BatchNorm(norm) => norm.eps = 1e-5,
                    _ => {}
                }
            }
        }
        Ok(graph)
    }

    /// What the file calls a parameter of its graph.
    pub(super) fn tensor(self, entry: &ParamEntry) -> String {
        let (node, _) = entry.name.rsplit_once('.').expect("names of parameters end with their kind");
        format!("{}.{}", self.module(node), suffix(entry.kind))
    }

    /// What the file calls a layer.
    fn module(self, node: &str) -> String {
        let parts: Vec<&str> = node.split('.').collect();
        let module = match (self.names, self.network) {
            (Names::Own, _) => None,
            (_, "resnet18") => resnet(&parts),
            (Names::Torchvision, _) => mobilenet_of_torchvision(&parts),
            (Names::Timm, _) => inverted_of_timm(&parts),
        };
        module.unwrap_or_else(|| node.to_owned())
    }

    /// Names of its tensors.
    fn tensors(self) -> Vec<String> {
        let side = self.usual_size() as usize;
        let graph = zoo::build(self.network, Shape::new(side, side, 3), 10).expect("its usual size fits");
        let layout = ParamLayout::new(&graph).expect("networks of the zoo are small");
        layout.entries().iter().map(|entry| self.tensor(entry)).collect()
    }

    /// Channels of its images and its number of classes, by the shapes of its first and its last weights.
    pub(super) fn ends(self, tensors: &Tensors<'_>) -> Result<(usize, usize), String> {
        let names = self.tensors();
        let side = |name: &str, side: usize| match tensors.get(name) {
            Some(Ok(tensor)) => tensor
                .shape
                .get(side)
                .copied()
                .ok_or_else(|| format!("tensor `{name}` has only {} sides", tensor.shape.len())),
            Some(Err(reason)) => Err(format!("tensor `{name}` {reason}")),
            None => Err(format!("there is no tensor `{name}`, as {} has one", self.describe())),
        };
        let last = names.iter().rfind(|name| name.ends_with(".weight")).expect("every network has weights");
        Ok((side(&names[0], 1)?, side(last, 0)?))
    }
}

/// Batch normalisations behind convolutions of ResNet.
fn resnet(parts: &[&str]) -> Option<String> {
    Some(match *parts {
        ["stem", "conv"] => "conv1".to_owned(),
        ["stem", "norm"] => "bn1".to_owned(),
        ["dense"] => "fc".to_owned(),
        [layer, block, "down", kind] => format!("{layer}.{block}.downsample.{}", place(kind)),
        [layer, block, half, kind] => {
            let number = if half == "a" { 1 } else { 2 };
            let kind = if kind == "conv" { "conv" } else { "bn" };
            format!("{layer}.{block}.{kind}{number}")
        }
        _ => return None,
    })
}

/// Place of a convolution or of the normalisation behind it in PyTorch's sequences of both.
fn place(kind: &str) -> usize {
    usize::from(kind == "norm")
}

/// Stage and block of `stage3.1`, both from 0.
fn stage_and_block(stage: &str, block: &str) -> Option<(usize, usize)> {
    let stage: usize = stage.strip_prefix("stage")?.parse().ok()?;
    Some((stage.checked_sub(1)?, block.parse().ok()?))
}

fn mobilenet_of_torchvision(parts: &[&str]) -> Option<String> {
    Some(match *parts {
        ["stem", kind] => format!("features.0.{}", place(kind)),
        ["head", kind] => format!("features.18.{}", place(kind)),
        ["dense"] => "classifier.1".to_owned(),
        [stage, block, layer, kind] => {
            let (stage, block) = stage_and_block(stage, block)?;
            let index = 1 + MOBILENET_REPEATS.iter().take(stage).sum::<usize>() + block;
            // The first stage has no expansion, so that all that follows it moves up by one.
            let expanded = usize::from(stage > 0);
            match layer {
                "expand" => format!("features.{index}.conv.0.{}", place(kind)),
                "depthwise" => format!("features.{index}.conv.{expanded}.{}", place(kind)),
                _ => format!("features.{index}.conv.{}", expanded + 1 + place(kind)),
            }
        }
        _ => return None,
    })
}

fn inverted_of_timm(parts: &[&str]) -> Option<String> {
    Some(match *parts {
        ["stem", "conv"] => "conv_stem".to_owned(),
        ["stem", _] => "bn1".to_owned(),
        ["head", "conv"] => "conv_head".to_owned(),
        ["head", _] => "bn2".to_owned(),
        ["dense"] => "classifier".to_owned(),
        [stage, block, layer, kind] => {
            let (stage, block) = stage_and_block(stage, block)?;
            let (conv, norm) = match (layer, stage) {
                ("expand", _) => ("conv_pw", "bn1"),
                ("depthwise", 0) => ("conv_dw", "bn1"),
                ("depthwise", _) => ("conv_dw", "bn2"),
                (_, 0) => ("conv_pw", "bn2"),
                _ => ("conv_pwl", "bn3"),
            };
            format!("blocks.{stage}.{block}.{}", if kind == "conv" { conv } else { norm })
        }
        _ => return None,
    })
}

/// The network of the zoo that tensors are of, with the names that they have: the one that is asked for, or the only one
/// whose names are all there and no others.
///
/// # Errors
/// [`ExchangeError::Missing`] where the names do not tell; [`ExchangeError::Engine`] for an unknown name in `network`.
pub(super) fn find(network: Option<&str>, tensors: &Tensors<'_>) -> Result<Candidate, ExchangeError> {
    let missing = |what: String| ExchangeError::Missing { what, option: "network" };
    if let Some(network) = network {
        return asked(network, tensors);
    }
    let fits = |candidate: &Candidate| {
        let names = candidate.tensors();
        names.len() == tensors.len() && names.iter().all(|name| tensors.contains_key(name))
    };
    let Some(found) = CANDIDATES.iter().map(|(candidate, _)| *candidate).find(fits) else {
        let first: Vec<&str> = tensors.keys().take(3).map(String::as_str).collect();
        let known = zoo::NAMES.join(", ");
        return Err(missing(format!(
            "the file holds weights alone, and its {} tensors (`{}`, ...) have the names of no network that is known \
             here: say which of {known} it is, or export the model as ONNX, which has the network in it",
            tensors.len(),
            first.join("`, `")
        )));
    };
    if found.network == "efficientnet-lite0" && found.names == Names::Timm {
        return Err(missing(format!(
            "the weights are those of EfficientNet-Lite0 by timm's names, which do not tell how it pads: say \
             tf_efficientnet_lite0 (as TensorFlow, also efficientnet-lite0) or {SYMMETRIC_LITE} (as PyTorch)"
        )));
    }
    Ok(found)
}

/// A network by name, under the names most of which are there.
fn asked(network: &str, tensors: &Tensors<'_>) -> Result<Candidate, ExchangeError> {
    let symmetric = network == SYMMETRIC_LITE;
    let network = if symmetric { "tf_efficientnet_lite0" } else { network };
    let there =
        |candidate: &Candidate| candidate.tensors().iter().filter(|name| tensors.contains_key(*name)).count();
    let named = CANDIDATES
        .iter()
        .filter(|(candidate, other)| candidate.network == network || other.contains(&network));
    let Some(best) = named.map(|(candidate, _)| *candidate).max_by_key(there) else {
        // Says which names there are.
        zoo::build(network, Shape::new(224, 224, 3), 2)?;
        let reason = format!("`{network}` has no names of tensors");
        return Err(ExchangeError::Damaged { format: "pytorch", reason });
    };
    Ok(Candidate { symmetric, ..best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_networks_have_the_same_names() {
        let all: Vec<Vec<String>> = CANDIDATES
            .iter()
            .map(|(candidate, _)| {
                let mut names = candidate.tensors();
                names.sort();
                names
            })
            .collect();
        for (i, names) in all.iter().enumerate() {
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", CANDIDATES[i]);
            assert!(all[..i].iter().all(|other| other != names), "{:?}", CANDIDATES[i]);
        }
    }

    #[test]
    fn every_network_of_the_zoo_has_names() {
        for name in zoo::NAMES {
            assert!(CANDIDATES.iter().any(|(candidate, _)| candidate.network == name), "{name}");
        }
    }
}
