//! The Open Inference Protocol, version 2 over HTTP, with Triton's extensions for binary tensors, classification,
//! model configuration, statistics and the repository.
//!
//! ```text
//! codec     a body: JSON, then raw tensors            -> what is asked for
//! tensors   one input, as JSON or raw                 -> images
//! outputs   answers of the classifier                 -> outputs, as JSON or raw
//! metadata  what clients are told of the model before they ask
//! ```
//!
//! The model has one input, as clients for images demand:
//!
//! | input | datatype | shape | values |
//! |---|---|---|---|
//! | `pixels` | FP32 or UINT8 | `[n, height, width, channels]` | 0 to 255, as decoded from an image |
//! | `image`, in place of `pixels` | BYTES | `[n]` or `[n, 1]` | image files, which are decoded and resized here |
//!
//! `pixels` have the size of the network's input, and are normalised here: the model file knows how. Whole numbers are
//! exact; others are rounded to the nearest 257th, as in an image of 16 bits, and are off by at most 1/514. In JSON a
//! file of `image` is a base64 text, with or without `data:..;base64,`; raw, it is its length in 4 bytes and its bytes.
//! `image` is not in the metadata, where clients expect one input. Exactly one of both is sent.
//!
//! The output that is given where none is asked for, `probabilities`, is FP32 `[n, classes]`; with the parameter `classification` it is BYTES
//! `[n, k]`, texts `probability:index:label` of the most likely classes, the probability in the fewest digits that
//! give the same f32. A label may have colons of its own: it is all that follows the second one.
//!
//! Who asks for them by name also gets `known`, BOOL `[n]`: whether an image shows a class of the model at all; and `score`, FP32
//! `[n]`: how little it looks like any of them, of a model that learnt a threshold for that. They are not in the metadata,
//! where clients for images expect one output.
//!
//! An image's answer does not depend on the form in which it came, nor on the images beside it.
//!
//! Sources: the protocol's `inference_rest.md` (kserve/open-inference-protocol); of Triton's documentation,
//! `extension_{binary_data,classification,model_configuration,model_repository,statistics}.md`.

pub(crate) mod codec;
pub(crate) mod expected;
pub(crate) mod metadata;
pub(crate) mod outputs;
pub(crate) mod tensors;
