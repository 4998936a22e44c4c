//! Tensors that stay in the file: numbers of some type, seen through a shape and strides.

use ocelli_engine::Bf16;
use ocelli_engine::model_file::from_f16;

/// Type of a number in a file of PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of one number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// What PyTorch calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Dtype::F64 => "float64",
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
            Dtype::I64 => "int64",
            Dtype::I32 => "int32",
            Dtype::I16 => "int16",
            Dtype::I8 => "int8",
            Dtype::U8 => "uint8",
            Dtype::Bool => "bool",
        }
    }

    /// Whether weights can be of this type.
    pub(super) fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }
}

/// Numbers of a file, seen through a shape and strides.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'a> {
    pub(super) dtype: Dtype,
    /// Sides, outermost first.
    pub(super) shape: Vec<usize>,
    /// Numbers between neighbours along each side.
    strides: Vec<usize>,
    /// The numbers, the first one first.
    bytes: &'a [u8],
    big_endian: bool,
}

/// The storage of a tensor, and the place of its first number in it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) dtype: Dtype,
    pub(super) bytes: &'a [u8],
    pub(super) big_endian: bool,
    /// Numbers before the first one.
    pub(super) offset: usize,
}

impl<'a> Tensor<'a> {
    /// A view of a storage.
    ///
    /// # Errors
    /// What of it lies outside of the storage.
    pub(super) fn new(place: Place<'a>, shape: Vec<usize>, strides: Vec<usize>) -> Result<Self, String> {
        let Place { dtype, bytes, big_endian, offset } = place;
        let beyond = || {
            let (shape, have) = (text(&shape), bytes.len() / dtype.bytes());
            format!("{shape} from number {offset} on lies beyond its {have} numbers")
        };
        if shape.len() != strides.len() {
            return Err(format!("{} sides and {} strides", shape.len(), strides.len()));
        }
        let count = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side)).ok_or_else(beyond)?;
        let last = shape.iter().zip(&strides).try_fold(offset, |at, (&side, &stride)| {
            at.checked_add(side.saturating_sub(1).checked_mul(stride)?)
        });
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(dtype.bytes()));
        let start = if count == 0 {
            bytes.len()
        } else {
            end.filter(|&end| end <= bytes.len()).ok_or_else(beyond)?;
            offset * dtype.bytes()
        };
        let bytes = &bytes[start..];
        Ok(Tensor { dtype, shape, strides, bytes, big_endian })
    }

    /// Numbers seen; a view may see one of its storage several times.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Place of the number at these coordinates, for [`Tensor::at`].
    pub(super) fn place(&self, coordinates: &[usize]) -> usize {
        coordinates.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum()
    }

    /// The number at a place, rounded to f32.
    ///
    /// # Panics
    /// For a place outside of the tensor, and for numbers that are no floats.
    pub(super) fn at(&self, place: usize) -> f32 {
        let from = &self.bytes[place * self.dtype.bytes()..];
        match self.dtype {
            Dtype::F64 => f64::from_bits(u64::from_le_bytes(self.little(from))) as f32,
            Dtype::F32 => f32::from_bits(u32::from_le_bytes(self.little(from))),
            Dtype::F16 => from_f16(u16::from_le_bytes(self.little(from))),
            Dtype::Bf16 => Bf16::from_bits(u16::from_le_bytes(self.little(from))).into(),
            _ => unreachable!("only floats are asked for"),
        }
    }

    fn little<const N: usize>(&self, from: &[u8]) -> [u8; N] {
        let mut bytes: [u8; N] = from[..N].try_into().expect("N bytes");
        if self.big_endian {
            bytes.reverse();
        }
        bytes
    }
}

/// A shape as PyTorch writes it.
pub(super) fn text(shape: &[usize]) -> String {
    let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", sides.join(", "))
}

/// Strides of a tensor whose numbers lie in order.
pub(super) fn in_order(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for side in (1..shape.len()).rev() {
        strides[side - 1] = strides[side].saturating_mul(shape[side]);
    }
    strides
}
