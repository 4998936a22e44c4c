//! A reader of `.ocelli` files from `docs/model-format.md` alone: no bincode, no serde, nothing of the engine.
//! It stops at the first surprise, and knows every byte of the file.

use sha2::{Digest, Sha256};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Int(u64),
    Float(f32),
    Text(String),
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) op: &'static str,
    pub(crate) settings: Vec<Value>,
    pub(crate) inputs: Vec<u32>,
}

pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

pub(crate) struct Training {
    pub(crate) optimizer: String,
    pub(crate) step: u64,
    pub(crate) extra: String,
    /// Per moment, per trainable tensor.
    pub(crate) moments: Vec<Vec<Vec<f32>>>,
}

/// The int8 section.
pub(crate) struct Int8 {
    /// Number, scale, zero and factors of each value.
    pub(crate) values: Vec<(u32, f32, u8, Vec<f32>)>,
    /// Number, scales and corrections of each layer.
    pub(crate) layers: Vec<(u32, Vec<f32>, Vec<f32>)>,
}

pub(crate) struct File {
    pub(crate) version: u32,
    pub(crate) input: [u32; 3],
    pub(crate) nodes: Vec<Node>,
    /// All fields from the model's name to its origin, in order.
    pub(crate) meta: Vec<Value>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) training: Option<Training>,
    /// Pixels and logits of each probe image.
    pub(crate) probes: Option<Vec<(Vec<u8>, Vec<f32>)>>,
    pub(crate) int8: Option<Int8>,
    pub(crate) hash: [u8; 32],
}

struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        self.at += n;
        &self.all[self.at - n..self.at]
    }
    fn int(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }
    fn u32(&mut self) -> u32 {
        self.int(4) as u32
    }
    fn f32(&mut self) -> f32 {
        f32::from_bits(self.u32())
    }
    fn list(&mut self) -> Vec<f32> {
        (0..self.int(8)).map(|_| self.f32()).collect()
    }
    fn text(&mut self) -> String {
        let len = self.int(8) as usize;
        String::from_utf8(self.take(len).to_vec()).unwrap()
    }
    fn ints(&mut self, n: usize, bytes: usize) -> Vec<Value> {
        (0..n).map(|_| Value::Int(self.int(bytes))).collect()
    }
    fn floats(&mut self, n: usize) -> Vec<Value> {
        (0..n).map(|_| Value::Float(self.f32())).collect()
    }
    fn flag(&mut self) -> bool {
        let byte = self.int(1);
        assert!(byte < 2);
        byte == 1
    }
    fn align(&mut self) {
        while !self.at.is_multiple_of(64) {
            assert_eq!(self.int(1), 0);
        }
    }
    fn tensor(&mut self, shape: &[usize]) -> Vec<f32> {
        self.align();
        (0..shape.iter().product()).map(|_| self.f32()).collect()
    }
    fn half_tensor(&mut self, shape: &[usize]) -> Vec<f32> {
        self.align();
        (0..shape.iter().product()).map(|_| self.f16()).collect()
    }
    fn f16(&mut self) -> f32 {
        let bits = self.int(2) as u32;
        let (exponent, fraction) = ((bits >> 10 & 31) as i32, (bits & 1023) as f32);
        assert!(exponent < 31, "no finite number");
        let magnitude = match exponent {
            0 => fraction * 2f32.powi(-24),
            _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
        };
        if bits >> 15 == 1 { -magnitude } else { magnitude }
    }
}

fn padding(b: &mut Bytes) -> Vec<Value> {
    let tag = b.u32();
    let sides = if tag == 2 { b.ints(4, 4) } else { vec![] };
    [vec![Value::Int(tag.into())], sides].concat()
}

fn op(b: &mut Bytes) -> (&'static str, Vec<Value>) {
    match b.u32() {
        0 => ("conv2d", [b.ints(7, 4), padding(b), b.ints(1, 4), b.ints(1, 1)].concat()),
        1 => ("max-pool", [b.ints(4, 4), padding(b)].concat()),
        2 => ("average-pool", [b.ints(4, 4), padding(b)].concat()),
        3 => ("global-average-pool", vec![]),
        4 => ("global-max-pool", vec![]),
        5 => ("dense", [b.ints(1, 4), b.ints(1, 1)].concat()),
        6 => ("batch-norm", b.floats(2)),
        7 => {
            let tag = b.u32();
            let numbers = match tag {
                0..=7 => 0,
                8 => 1,
                9 => 2,
                tag => panic!("activation {tag}"),
            };
            ("activation", [vec![Value::Int(tag.into())], b.floats(numbers)].concat())
        }
        8 => ("dropout", b.floats(1)),
        9 => ("flatten", vec![]),
        10 => ("add", vec![]),
        11 => ("concat", vec![]),
        12 => ("channel-scale", vec![]),
        13 => {
            let channels = b.int(8) as usize;
            ("channel-gather", b.ints(channels, 4))
        }
        tag => panic!("layer kind {tag}"),
    }
}

fn meta(b: &mut Bytes, version: u32) -> Vec<Value> {
    let mut all = vec![Value::Text(b.text())];
    let classes = b.int(8);
    all.extend((0..classes).map(|_| Value::Text(b.text())));
    all.extend([b.ints(2, 4), b.ints(1, 1), b.ints(1, 4)].concat());
    for _ in ["mean", "std"] {
        let n = b.int(8) as usize;
        all.extend(b.floats(n));
    }
    let metrics = b.flag();
    all.push(Value::Int(metrics.into()));
    if metrics {
        all.extend(b.floats(3));
        all.extend([Value::Text(b.text()), Value::Int(b.int(8))]);
    }
    let origin = if version == 1 { 0 } else { b.u32() };
    all.extend((version > 1).then_some(Value::Int(origin.into())));
    if origin == 1 {
        all.extend((0..3).map(|_| Value::Text(b.text())));
        all.extend(b.ints(32, 1));
        all.extend([Value::Text(b.text()), Value::Int(b.int(8))]);
        return all;
    }
    assert_eq!(origin, 0);
    all.extend([Value::Text(b.text()), Value::Int(b.int(8)), Value::Text(b.text())]);
    all.extend(b.ints(32, 1));
    all.extend([Value::Text(b.text()), Value::Int(b.int(8)), Value::Int(b.int(4))]);
    let parent = b.flag();
    all.push(Value::Int(parent.into()));
    all.extend(parent.then(|| Value::Text(b.text())));
    all
}

/// SHA-256 over class names, fit, means, deviations and weights.
fn answering_hash(meta: &[Value], tensors: &[Tensor]) -> [u8; 32] {
    let mut bytes = Vec::new();
    let classes = meta[1..].iter().take_while(|value| matches!(value, Value::Text(_))).count();
    bytes.extend((classes as u64).to_le_bytes());
    for name in &meta[1..=classes] {
        let Value::Text(name) = name else { panic!("{name:?}") };
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
    }
    let [_, _, Value::Int(channels), Value::Int(fit)] = meta[classes + 1..classes + 5] else { panic!() };
    bytes.extend((fit as u32).to_le_bytes());
    for list in meta[classes + 5..].chunks(channels as usize).take(2) {
        bytes.extend(channels.to_le_bytes());
        for value in list {
            let Value::Float(value) = value else { panic!("{value:?}") };
            bytes.extend(value.to_le_bytes());
        }
    }
    tensors.iter().flat_map(|tensor| &tensor.values).for_each(|value| bytes.extend(value.to_le_bytes()));
    Sha256::digest(bytes).into()
}

/// Reads a file; panics where it is not what the document says.
pub(crate) fn read(file: &[u8]) -> File {
    let (body, hash) = file.split_at(file.len() - 32);
    assert_eq!(Sha256::digest(body)[..], *hash);
    let mut b = Bytes { all: body, at: 0 };
    assert_eq!(b.take(8), [0x89, 0x4f, 0x43, 0x45, 0x4c, 0x4c, 0x49, 0x0a]);
    let version = b.u32();
    assert!((1..=8).contains(&version));
    let flags = b.u32();
    let header_end = 32 + b.int(8) as usize;
    assert_eq!(b.int(8) as usize, file.len());

    let input = [b.u32(), b.u32(), b.u32()];
    let mut nodes = Vec::new();
    for _ in 0..b.int(8) {
        let name = b.text();
        let (op, settings) = op(&mut b);
        let inputs = (0..b.int(8)).map(|_| b.u32()).collect();
        nodes.push(Node { name, op, settings, inputs });
    }
    let mut meta = meta(&mut b, version);
    let half = version > 2 && b.u32() == 1;
    assert!(half || version != 3);
    if version > 3 && b.flag() {
        meta.push(Value::Float(b.f32()));
    } else {
        assert_ne!(version, 4);
    }
    let rejects = version > 4 && b.flag();
    assert!(rejects || version != 5);
    if rejects {
        meta.push(Value::Int(b.u32().into()));
        meta.extend([Value::Float(b.f32()), Value::Float(b.f32()), Value::Int(b.int(8))]);
        meta.extend([Value::Float(b.f32()), Value::Float(b.f32())]);
        for _ in 0..b.int(8) {
            meta.push(Value::Float(b.f32()));
        }
    }
    if version > 5 {
        if rejects {
            meta.push(Value::Int(b.int(8)));
            for _ in 0..b.int(8) {
                meta.extend([Value::Int(b.u32().into()), Value::Float(b.f32())]);
                for _ in 0..2 {
                    let floats = b.int(8) as usize;
                    meta.extend(b.floats(floats));
                }
            }
        }
        assert!(rejects || version != 6);
    }
    if version > 6 {
        let several = b.flag();
        assert!(several || version != 7);
        if several {
            let labels = b.int(8) as usize;
            meta.extend(b.floats(labels));
            if b.flag() {
                meta.extend(b.floats(3));
                meta.extend([Value::Text(b.text()), Value::Int(b.int(8))]);
            }
        }
    }
    let mut table = Vec::new();
    for _ in 0..b.int(8) {
        let name = b.text();
        let shape: Vec<usize> = (0..b.int(8)).map(|_| b.int(8) as usize).collect();
        table.push((name, shape, b.int(8) as usize, b.int(8) as usize));
    }
    assert_eq!(b.at, header_end);

    b.align();
    let start = b.at;
    let mut tensors = Vec::new();
    for (name, shape, offset, bytes) in table {
        let half = half && name.ends_with(".weight");
        let values = if half { b.half_tensor(&shape) } else { b.tensor(&shape) };
        let size = if half { 2 } else { 4 };
        assert_eq!((start + offset, start + offset + bytes), (b.at - size * values.len(), b.at));
        tensors.push(Tensor { name, shape, values });
    }
    assert!(flags < 8);
    let training = (flags & 1 == 1).then(|| {
        b.align();
        let end = b.at + 8 + b.int(8) as usize;
        let (optimizer, step, extra, moments) = (b.text(), b.int(8), b.text(), b.u32());
        assert_eq!(b.at, end);
        b.align();
        let trainable = |t: &&Tensor| !t.name.ends_with(".running_mean") && !t.name.ends_with(".running_var");
        let mut moment = || tensors.iter().filter(trainable).map(|t| b.tensor(&t.shape)).collect();
        let moments = (0..moments).map(|_| moment()).collect();
        Training { optimizer, step, extra, moments }
    });
    let probes = (flags & 2 == 2).then(|| {
        b.align();
        let count = b.int(8);
        assert!((1..=8).contains(&count));
        assert_eq!(answering_hash(&meta, &tensors)[..], *b.take(32));
        let classes = meta.iter().skip(1).take_while(|value| matches!(value, Value::Text(_))).count();
        let pixels = input.iter().product::<u32>() as usize;
        let mut probe = || {
            b.align();
            (b.take(pixels).to_vec(), b.tensor(&[classes]))
        };
        (0..count).map(|_| probe()).collect()
    });
    let int8 = (flags & 4 == 4).then(|| {
        b.align();
        let end = b.at + 8 + b.int(8) as usize;
        let values = (0..b.int(8)).map(|_| (b.u32(), b.f32(), b.int(1) as u8, b.list())).collect();
        let layers = (0..b.int(8)).map(|_| (b.u32(), b.list(), b.list())).collect();
        assert_eq!(b.at, end);
        Int8 { values, layers }
    });
    assert_eq!(b.at, body.len());
    File { version, input, nodes, meta, tensors, training, probes, int8, hash: hash.try_into().unwrap() }
}
