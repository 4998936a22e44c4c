//! A node with what its inputs are.

use super::constant::Constant;
use super::schema::Node;
use super::view::View;

/// A value of an ONNX graph.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// It depends on the images.
    Image(View),
    /// It does not.
    Constant(Constant<'a>),
    /// An image of one pixel, and the dimensions that `Expand` gives it: a product may read it.
    Expanded(View, Vec<i64>),
    /// What a node makes that is not supported.
    Unknown,
}

/// A node, its inputs, and what its layers are called.
pub(super) struct Call<'a, 'n> {
    pub(super) node: &'n Node<'a>,
    /// `None` for inputs that are left out.
    pub(super) inputs: Vec<Option<Value<'a>>>,
    /// Version of the operators.
    pub(super) opset: i64,
    /// The number of images that the file was made for, where it is fixed.
    pub(super) batch: Option<i64>,
    /// What its layer is called.
    pub(super) name: String,
}

impl<'a> Call<'a, '_> {
    /// An input that depends on the images.
    pub(super) fn image(&self, index: usize) -> Result<&View, String> {
        match self.inputs.get(index) {
            Some(Some(Value::Image(view))) => Ok(view),
            Some(Some(Value::Constant(_))) => Err(format!("has a constant as input {index}, not images")),
            Some(Some(Value::Expanded(..))) => Err(format!(
                "reads input {index} repeated over many pixels; only a product with an image can"
            )),
            _ => Err(format!("has no input {index}")),
        }
    }

    /// An input that does not; `None` where it is left out.
    ///
    /// # Errors
    /// Where it depends on the images.
    pub(super) fn optional(&self, index: usize) -> Result<Option<&Constant<'a>>, String> {
        match self.inputs.get(index) {
            Some(Some(Value::Constant(constant))) => Ok(Some(constant)),
            Some(Some(_)) => {
                Err(format!("computes its input {index} from the images; only constants are supported"))
            }
            _ => Ok(None),
        }
    }

    /// An input that does not and that must be there.
    ///
    /// # Errors
    /// Where it is missing or depends on the images.
    pub(super) fn constant(&self, index: usize) -> Result<&Constant<'a>, String> {
        self.optional(index)?.ok_or_else(|| format!("has no input {index}"))
    }
}
