//! Constants of a file: numbers of some type that stay in the file's bytes until a layer takes them.

use ocelli_engine::Bf16;
use ocelli_engine::model_file::from_f16;

use super::field;
use super::wire::{Field, Fields, Value, doubles, floats, varints};

/// Types of numbers, as `onnx.proto` numbers them.
pub(super) mod kind {
    pub(in super::super) const FLOAT: i64 = 1;
    pub(in super::super) const UINT8: i64 = 2;
    pub(in super::super) const INT8: i64 = 3;
    pub(in super::super) const UINT16: i64 = 4;
    pub(in super::super) const INT16: i64 = 5;
    pub(in super::super) const INT32: i64 = 6;
    pub(in super::super) const INT64: i64 = 7;
    pub(in super::super) const BOOL: i64 = 9;
    pub(in super::super) const FLOAT16: i64 = 10;
    pub(in super::super) const DOUBLE: i64 = 11;
    pub(in super::super) const UINT32: i64 = 12;
    pub(in super::super) const UINT64: i64 = 13;
    pub(in super::super) const BFLOAT16: i64 = 16;
}

/// A constant that lies in the file.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<usize>,
    pub(super) kind: i64,
    /// Whether its numbers are in another file.
    is_external: bool,
    message: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// Reads all but the numbers.
    pub(super) fn read(message: &'a [u8]) -> Self {
        let mut tensor = Tensor { name: "", dims: Vec::new(), kind: 0, is_external: false, message };
        for Field { number, value } in Fields::new(message) {
            match (number, value) {
                (field::TENSOR_DIMS, value) => {
                    // A rank past all limits is refused by whoever uses it; not so many are kept.
                    let room = (super::schema::MAX_RANK + 1).saturating_sub(tensor.dims.len());
                    tensor.dims.extend(
                        varints(value).take(room).map(|dim| usize::try_from(dim).unwrap_or(usize::MAX)),
                    );
                }
                (field::TENSOR_DATA_TYPE, Value::Varint(kind)) => tensor.kind = kind as i64,
                (field::TENSOR_NAME, Value::Bytes(name)) => {
                    tensor.name = std::str::from_utf8(name).unwrap_or("");
                }
                (field::TENSOR_DATA_LOCATION, Value::Varint(place)) => tensor.is_external = place == 1,
                (field::TENSOR_EXTERNAL_DATA, _) => tensor.is_external = true,
                _ => {}
            }
        }
        tensor
    }

    /// Its numbers as floats.
    ///
    /// # Errors
    /// A sentence: where they are in another file, of a type that cannot be, or not as many as its dimensions say.
    pub(super) fn floats(&self) -> Result<Vec<f32>, String> {
        self.numbers(|number| number as f32)
    }

    /// Its numbers as integers; fractions are cut.
    ///
    /// # Errors
    /// As [`Tensor::floats`].
    pub(super) fn ints(&self) -> Result<Vec<i64>, String> {
        if matches!(self.kind, kind::INT64 | kind::UINT64) {
            self.wide()
        } else {
            self.numbers(|number| number as i64)
        }
    }

    /// Numbers of all types of up to 53 bits, which a double holds as they are.
    fn numbers<T>(&self, convert: impl Fn(f64) -> T) -> Result<Vec<T>, String> {
        let half = |bits: u16| f64::from(from_f16(bits));
        let bfloat = |bits: u16| f64::from(f32::from(Bf16::from_bits(bits)));
        match self.kind {
            kind::FLOAT => self.collect(|b: [u8; 4]| f64::from(f32::from_le_bytes(b)), |n| n as f64, convert),
            kind::DOUBLE => self.collect(f64::from_le_bytes, |n| n as f64, convert),
            kind::FLOAT16 => self.collect(|b| half(u16::from_le_bytes(b)), |n| half(n as u16), convert),
            kind::BFLOAT16 => self.collect(|b| bfloat(u16::from_le_bytes(b)), |n| bfloat(n as u16), convert),
            kind::UINT8 | kind::BOOL => {
                self.collect(|[b]: [u8; 1]| f64::from(b), |n| f64::from(n as u8), convert)
            }
            kind::INT8 => self.collect(|[b]: [u8; 1]| f64::from(b as i8), |n| f64::from(n as i8), convert),
            kind::UINT16 => {
                self.collect(|b| f64::from(u16::from_le_bytes(b)), |n| f64::from(n as u16), convert)
            }
            kind::INT16 => {
                self.collect(|b| f64::from(i16::from_le_bytes(b)), |n| f64::from(n as i16), convert)
            }
            kind::INT32 => {
                self.collect(|b| f64::from(i32::from_le_bytes(b)), |n| f64::from(n as i32), convert)
            }
            kind::UINT32 => {
                self.collect(|b| f64::from(u32::from_le_bytes(b)), |n| f64::from(n as u32), convert)
            }
            kind::INT64 | kind::UINT64 => {
                self.collect(|b| i64::from_le_bytes(b) as f64, |n| n as f64, convert)
            }
            other => {
                Err(format!("the constant `{}` has numbers of type {other}, which is not read", self.name))
            }
        }
    }

    fn wide(&self) -> Result<Vec<i64>, String> {
        let len = self.len()?;
        if let Some(raw) = self.raw() {
            let (numbers, rest) = raw.as_chunks::<8>();
            self.expect(len, numbers.len(), rest.is_empty())?;
            return Ok(numbers.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect());
        }
        self.expect(len, self.data().map(|field| varints(field.value).count()).sum(), true)?;
        let mut all = Vec::with_capacity(len);
        self.data().for_each(|field| all.extend(varints(field.value)));
        Ok(all)
    }

    /// Numbers of `N` bytes each where they are raw, from integers where these stand in a field of their own.
    fn collect<T, const N: usize>(
        &self,
        raw: impl Fn([u8; N]) -> f64,
        int: impl Fn(i64) -> f64,
        convert: impl Fn(f64) -> T,
    ) -> Result<Vec<T>, String> {
        let len = self.len()?;
        if let Some(bytes) = self.raw() {
            let (numbers, rest) = bytes.as_chunks::<N>();
            self.expect(len, numbers.len(), rest.is_empty())?;
            return Ok(numbers.iter().map(|bytes| convert(raw(*bytes))).collect());
        }
        let count = |field: Field<'_>| match self.kind {
            kind::FLOAT => floats(field.value).count(),
            kind::DOUBLE => doubles(field.value).count(),
            _ => varints(field.value).count(),
        };
        self.expect(len, self.data().map(count).sum(), true)?;
        let mut all = Vec::with_capacity(len);
        for field in self.data() {
            match self.kind {
                kind::FLOAT => all.extend(floats(field.value).map(|number| convert(f64::from(number)))),
                kind::DOUBLE => all.extend(doubles(field.value).map(&convert)),
                _ => all.extend(varints(field.value).map(|number| convert(int(number)))),
            }
        }
        Ok(all)
    }

    /// How many numbers it has.
    ///
    /// # Errors
    /// For more than can be counted.
    pub(super) fn len(&self) -> Result<usize, String> {
        let len = self.dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        len.ok_or_else(|| format!("the constant `{}` has more numbers than can be", self.name))
    }

    fn expect(&self, len: usize, found: usize, is_whole: bool) -> Result<(), String> {
        if self.is_external {
            return Err(format!(
                "the numbers of `{}` are in another file; save the model in one file: \
                 `onnx.save_model(onnx.load(FILE), OUT)` in Python, or `torch.onnx.export(.., external_data=False)`",
                self.name
            ));
        }
        if len == found && is_whole {
            return Ok(());
        }
        let dims: Vec<String> = self.dims.iter().map(usize::to_string).collect();
        Err(format!(
            "the constant `{}` of {} has {found} numbers: the file is damaged",
            self.name,
            dims.join("x")
        ))
    }

    /// The raw bytes, where the numbers are such.
    fn raw(&self) -> Option<&'a [u8]> {
        let fields = Fields::new(self.message).filter(|field| field.number == field::TENSOR_RAW_DATA);
        fields.last().and_then(|field| match field.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// The fields with the numbers, where they are not raw.
    fn data(&self) -> impl Iterator<Item = Field<'a>> {
        let number = match self.kind {
            kind::FLOAT => field::TENSOR_FLOAT_DATA,
            kind::DOUBLE => field::TENSOR_DOUBLE_DATA,
            kind::INT64 => field::TENSOR_INT64_DATA,
            kind::UINT32 | kind::UINT64 => field::TENSOR_UINT64_DATA,
            _ => field::TENSOR_INT32_DATA,
        };
        Fields::new(self.message).filter(move |field| field.number == number)
    }
}
