//! Files of `torch.save`: the ZIP form and the older one, down to the tensors of a state dict by name.

use std::collections::{BTreeMap, HashMap};

use super::pickle::{Object, Pickle, Value, View};
use super::tensor::{Dtype, Place, Tensor};
use super::weights::Tensors;
use crate::archive::{self, Member};

/// First pickle of a file in the older form, little-endian.
const LEGACY_MARK: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Keys under which checkpoints keep a state dict beside optimiser, epoch and so on; the first that is there is taken.
const WRAPPERS: [&str; 8] =
    ["state_dict", "model_state_dict", "model", "net", "module", "state_dict_ema", "model_ema", "params"];

/// What wrappers of modules put before all names: DataParallel, Lightning and the like, `torch.compile`.
const PREFIXES: [&str; 4] = ["module.", "model.", "_orig_mod.", "net."];

/// A state dict.
pub(super) struct State<'a> {
    pub(super) tensors: Tensors<'a>,
    /// What was left out on the way.
    pub(super) notes: Vec<String>,
}

/// Whether bytes begin like a file of `torch.save` that is no archive: a pickle of protocol 2 or later.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

/// Reads a file of either form.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn read(bytes: &[u8]) -> Result<State<'_>, String> {
    if archive::is_archive(bytes) { read_archive(bytes) } else { read_legacy(bytes) }
}

/// Bytes of a file by the keys of its storages.
struct Storages<'a> {
    of: HashMap<String, &'a [u8]>,
    big_endian: bool,
}

fn read_archive(bytes: &[u8]) -> Result<State<'_>, String> {
    let members = archive::members(bytes)?;
    let Some(root) = members.iter().find_map(|(name, _)| name.strip_suffix("/data.pkl")) else {
        return Err("the archive holds no `data.pkl`: it was not written by `torch.save`".to_owned());
    };
    let named = |name: &str| members.iter().find(|(full, _)| full.strip_prefix(root) == Some(name));
    if members.iter().any(|(name, _)| name.strip_prefix(root).is_some_and(|name| name.starts_with("/code/")))
    {
        return Err(
            "the file is a TorchScript program, which is not run here: export the model as ONNX, or save \
                    `model.state_dict()`"
                .to_owned(),
        );
    }
    let (_, pickle) = named("/data.pkl").expect("its folder was found by it");
    let big_endian = match named("/byteorder").map(|&(_, order)| order) {
        None | Some(b"little") => false,
        Some(b"big") => true,
        Some(_) => return Err("`byteorder` is neither little nor big: the file is damaged".to_owned()),
    };
    let storage = |(name, bytes): &Member<'_>| {
        Some((name.strip_prefix(root)?.strip_prefix("/data/")?.to_owned(), bytes.len()))
    };
    let mut of = HashMap::new();
    for member in &members {
        if let Some((key, _)) = storage(member) {
            of.insert(key, member.1);
        }
    }
    let pickle = Pickle::read(pickle, bytes.len())?;
    state(&pickle, &Storages { of, big_endian }, bytes.len())
}

/// Pickles of a magic number, a protocol, the system and the object; then keys of storages, then each with its length.
fn read_legacy(bytes: &[u8]) -> Result<State<'_>, String> {
    let mut rest = bytes;
    let mut next = || -> Result<Pickle<'_>, String> {
        let pickle = Pickle::read(rest, bytes.len())?;
        rest = &rest[pickle.len..];
        Ok(pickle)
    };
    if !matches!(next()?.root, Value::Long(mark) if mark == LEGACY_MARK) {
        return Err(
            "a pickle that `torch.save` did not write: load it in Python and save its state dict with \
                    `torch.save`"
                .to_owned(),
        );
    }
    let (_protocol, system) = (next()?, next()?);
    let big_endian = match system.object(system.root) {
        Some(Object::Dict(pairs)) => {
            pairs.iter().any(|pair| matches!(pair, (Value::Str("little_endian"), Value::Bool(false))))
        }
        _ => false,
    };
    let (pickle, keys) = (next()?, next()?);
    let types = storage_types(&pickle);
    let mut of = HashMap::new();
    for &key in keys.sequence(keys.root).unwrap_or_default() {
        let Value::Str(key) = key else { return Err("a storage whose key is no text".to_owned()) };
        let Some((len, numbers)) = rest.split_first_chunk::<8>() else {
            return Err(format!("storage `{key}` is not there: the file is cut off"));
        };
        let len = if big_endian { u64::from_be_bytes(*len) } else { u64::from_le_bytes(*len) };
        let each = types.get(key).map_or(1, |dtype| dtype.bytes());
        let len = usize::try_from(len).ok().and_then(|len| len.checked_mul(each));
        let Some((numbers, after)) = len.and_then(|len| numbers.split_at_checked(len)) else {
            return Err(format!("storage `{key}` lies beyond the end of the file: it is cut off or damaged"));
        };
        of.insert(key.to_owned(), numbers);
        rest = after;
    }
    state(&pickle, &Storages { of, big_endian }, bytes.len())
}

fn storage_types<'a>(pickle: &Pickle<'a>) -> HashMap<&'a str, Dtype> {
    let storages = pickle.objects.iter().filter_map(|object| match object {
        Object::Storage(storage) => Some((storage.key, of_storage(storage.class)?)),
        _ => None,
    });
    storages.collect()
}

/// Type of the numbers of a class of storages; `None` for one that knows bytes alone.
fn of_storage(class: &str) -> Option<Dtype> {
    Some(match class {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::Bf16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        _ => return None,
    })
}

fn of_name(dtype: &str) -> Option<Dtype> {
    use Dtype::{Bf16, Bool, F16, F32, F64, I8, I16, I32, I64, U8};
    [F64, F32, F16, Bf16, I64, I32, I16, I8, U8, Bool].into_iter().find(|known| known.name() == dtype)
}

/// The state dict in what a file holds.
fn state<'a>(pickle: &Pickle<'a>, storages: &Storages<'a>, file_bytes: usize) -> Result<State<'a>, String> {
    let mut notes = Vec::new();
    let dict = find_dict(pickle, &mut notes)?;
    let mut tensors = BTreeMap::new();
    let (mut seen, mut others) = (0usize, Vec::new());
    for &(key, value) in dict {
        let Value::Str(name) = key else { continue };
        let tensor = match pickle.object(value) {
            Some(Object::Tensor(view)) => tensor(view, storages),
            Some(Object::Opaque(module, function)) => {
                Err(format!("was made by `{module}.{function}`, which is not read here"))
            }
            _ => {
                others.push(name);
                continue;
            }
        };
        if let Ok(tensor) = &tensor {
            seen = seen.saturating_add(tensor.len());
        }
        tensors.insert(name.to_owned(), tensor);
    }
    // A view that repeats its numbers can be larger than the file, whose bytes the weights must not exceed.
    if seen > file_bytes {
        return Err(format!("its tensors show {seen} numbers, more than the file has bytes"));
    }
    if !others.is_empty() {
        others.truncate(5);
        notes.push(format!("left out beside the tensors: {}", others.join(", ")));
    }
    Ok(State { tensors: named(tensors), notes })
}

/// The dictionary of the tensors: the whole file, or one part of a checkpoint.
fn find_dict<'p, 'a>(
    pickle: &'p Pickle<'a>,
    notes: &mut Vec<String>,
) -> Result<&'p [(Value<'a>, Value<'a>)], String> {
    let whole_module = |module: &str, class: &str| {
        format!(
            "the file holds an object of the class `{module}.{class}`, which only the program that defines it can \
             read: save `model.state_dict()`, or export the model as ONNX"
        )
    };
    let mut dict = match pickle.object(pickle.root) {
        Some(Object::Dict(dict)) => dict,
        Some(Object::Opaque(module, class)) => return Err(whole_module(module, class)),
        _ => return Err("the file holds no state dict: save `model.state_dict()`".to_owned()),
    };
    // A checkpoint may be wrapped twice.
    for _ in 0..2 {
        let has_tensors =
            dict.iter().any(|&(_, value)| matches!(pickle.object(value), Some(Object::Tensor(_))));
        let part = |wrapper: &str| {
            let found = dict.iter().rfind(|(key, _)| matches!(key, Value::Str(key) if *key == wrapper));
            found.and_then(|&(_, value)| pickle.object(value))
        };
        let mut parts = WRAPPERS.iter().filter_map(|wrapper| Some((*wrapper, part(wrapper)?)));
        let Some((wrapper, part)) = parts.next().filter(|_| !has_tensors) else { break };
        dict = match part {
            Object::Dict(dict) => dict,
            Object::Opaque(module, class) => return Err(whole_module(module, class)),
            _ => break,
        };
        notes.push(format!("the weights are those under `{wrapper}`"));
        if let Some((other, _)) = parts.find(|(other, _)| other.ends_with("_ema")) {
            notes.push(format!("the averaged weights under `{other}` were left out"));
        }
    }
    Ok(dict)
}

fn tensor<'a>(view: &View<'a>, storages: &Storages<'a>) -> Result<Tensor<'a>, String> {
    let View { storage, offset, shape, strides, dtype } = view;
    let dtype = match dtype {
        Some(dtype) => of_name(dtype).ok_or_else(|| format!("holds {dtype}, which is not read here"))?,
        None => of_storage(storage.class)
            .ok_or_else(|| format!("lies in a `{}`, which is not read here", storage.class))?,
    };
    let bytes = *storages.of.get(storage.key).ok_or_else(|| {
        format!("lies in storage `{}`, which the file has not: it is cut off or damaged", storage.key)
    })?;
    let place = Place { dtype, bytes, big_endian: storages.big_endian, offset: *offset };
    Tensor::new(place, shape.clone(), strides.clone())
}

/// Tensors by their names without what wrappers put before all of them, and without the counts of batches, which
/// normalisations with a fixed momentum do not use.
pub(super) fn named(tensors: Tensors<'_>) -> Tensors<'_> {
    let mut tensors: Tensors<'_> =
        tensors.into_iter().filter(|(name, _)| !name.ends_with(".num_batches_tracked")).collect();
    while let Some(prefix) = PREFIXES
        .iter()
        .find(|prefix| !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(**prefix)))
    {
        tensors =
            tensors.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect();
    }
    tensors
}
