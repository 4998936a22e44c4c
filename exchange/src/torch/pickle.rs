//! A reader of pickles that runs nothing.
//!
//! A pickle is a program for a small stack machine: it pushes values, keeps some under numbers, gathers them into lists and
//! dictionaries, and asks for functions to be called. Here only the functions in [`Machine::call`] are known, all of
//! which describe tensors; a call of any other one leaves an [`Object::Opaque`], which has its name and nothing else. Read are
//! the opcodes of protocols 2 to 5 (<https://docs.python.org/3/library/pickletools.html>), which `torch.save` writes.
//!
//! Values are numbers of objects in one list, so that what refers to itself needs no recursion. Strings and storages stay in
//! the file. What objects take is counted before they are made.

use std::collections::HashMap;
use std::ops::Range;

/// A value on the stack.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    /// A whole number of more than 8 bytes, little-endian.
    Long(&'a [u8]),
    Str(&'a str),
    Bytes,
    /// Its place in [`Pickle::objects`].
    Object(u32),
}

/// What a pickle makes.
#[derive(Debug)]
pub(super) enum Object<'a> {
    /// A list, tuple or set.
    Sequence(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A class or function by module and name.
    Global(&'a str, &'a str),
    /// What a persistent id stands for: where the numbers of tensors are.
    Storage(Storage<'a>),
    Tensor(Box<View<'a>>),
    /// What a class or function made that is not known here.
    Opaque(&'a str, &'a str),
}

/// Numbers of tensors elsewhere in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    /// Class of the storage: `FloatStorage` and so on.
    pub(super) class: &'a str,
    /// Name of its bytes.
    pub(super) key: &'a str,
}

/// A tensor as a view of a storage.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    pub(super) storage: Storage<'a>,
    /// Numbers before its first one.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    /// Type of its numbers, where the storage has none: `float32` and so on.
    pub(super) dtype: Option<&'a str>,
}

/// What a pickle comes to.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) root: Value<'a>,
    pub(super) objects: Vec<Object<'a>>,
    /// Bytes that it takes.
    pub(super) len: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`, part of a file of `file_bytes`: it takes about six times those, at most.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub(super) fn read(bytes: &'a [u8], file_bytes: usize) -> Result<Self, String> {
        let budget = file_bytes.saturating_mul(6).saturating_add(2 << 20);
        let mut machine = Machine { bytes, budget, ..Machine::default() };
        let root = machine.run().map_err(|reason| format!("pickle, byte {}: {reason}", machine.at))?;
        Ok(Pickle { root, objects: machine.objects, len: machine.at })
    }

    /// The object that a value is.
    pub(super) fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get(index as usize),
            _ => None,
        }
    }

    /// The elements of a list or tuple.
    pub(super) fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::Sequence(values) => Some(values),
            _ => None,
        }
    }
}

/// Bytes that a value, an entry of the memo and an object count for: a list that grows has its old place beside its new one, which
/// is twice as large.
const VALUE_BYTES: usize = 3 * size_of::<Value<'_>>();
const MEMO_BYTES: usize = 4 * size_of::<(u32, Value<'_>)>();
const OBJECT_BYTES: usize = 3 * size_of::<Object<'_>>();

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    budget: usize,
    stack: Vec<Value<'a>>,
    /// Most values that the stack has held.
    highest: usize,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    objects: Vec<Object<'a>>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Value<'a>> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                op => self.step(op)?,
            }
        }
    }

    /// One opcode other than STOP.
    fn step(&mut self, op: u8) -> Step<()> {
        match op {
            // PROTO, FRAME
            0x80 => match self.byte()? {
                2..=5 => Ok(()),
                version => Err(format!("protocol {version} is not read: save it with protocol 2 to 5")),
            },
            0x95 => self.take(8).map(drop),
            // MARK, POP, POP_MARK, DUP
            b'(' => {
                self.charge(VALUE_BYTES)?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => match self.marks.last() {
                Some(&mark) if mark == self.stack.len() => self.marks.pop().map(drop).ok_or_else(underflow),
                _ => self.pop().map(drop),
            },
            b'1' => {
                let start = self.marked()?.start;
                self.stack.truncate(start);
                Ok(())
            }
            b'2' => {
                let top = *self.stack.last().ok_or_else(underflow)?;
                self.push(top)
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a | 0x8b => self.integer(op),
            b'G' => {
                self.take(8)?;
                self.push(Value::Float)
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.text(op),
            // EMPTY_LIST, EMPTY_TUPLE, EMPTY_SET, EMPTY_DICT
            b']' | b')' | 0x8f => self.make(Object::Sequence(Vec::new())),
            b'}' => self.make(Object::Dict(Vec::new())),
            b't' | b'l' | 0x91 => {
                let range = self.marked()?;
                let values = self.stack[range.clone()].to_vec();
                self.tuple(range.start, values)
            }
            0x85..=0x87 => {
                let count = usize::from(op - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or_else(underflow)?;
                let values = self.stack[start..].to_vec();
                self.tuple(start, values)
            }
            b'a' | b'e' | 0x90 => self.append(op),
            b's' | b'u' | b'd' => self.set_items(op),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(op),
            b'c' | 0x93 => self.global(op),
            b'R' | 0x81 | 0x92 => self.reduce(op),
            // BUILD: attributes of an object, none of which is needed.
            b'b' => {
                self.pop()?;
                self.stack.last().map(drop).ok_or_else(underflow)
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.make(Object::Storage(storage))
            }
            _ => Err(format!("opcode {op:#04x} is none of those that `torch.save` writes")),
        }
    }

    fn integer(&mut self, op: u8) -> Step<()> {
        let value = match op {
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            b'K' => i64::from(self.byte()?),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            _ => {
                let len = if op == 0x8a {
                    usize::from(self.byte()?)
                } else {
                    u32::from_le_bytes(self.array()?) as usize
                };
                let bytes = self.take(len)?;
                if len > 8 {
                    return self.push(Value::Long(bytes));
                }
                let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                wide[..len].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Value::Int(value))
    }

    fn text(&mut self, op: u8) -> Step<()> {
        let len = match op {
            0x8c | b'U' | b'C' => u64::from(self.byte()?),
            b'X' | b'T' | b'B' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        let is_text = matches!(op, b'X' | 0x8c | 0x8d | b'T' | b'U');
        match std::str::from_utf8(bytes) {
            Ok(text) if is_text => self.push(Value::Str(text)),
            _ => self.push(Value::Bytes),
        }
    }

    fn append(&mut self, op: u8) -> Step<()> {
        let start = if op == b'a' {
            self.stack.len().checked_sub(1).ok_or_else(underflow)?
        } else {
            self.marked()?.start
        };
        let (list, count) = (self.below(start)?, self.stack.len() - start);
        self.charge(count * VALUE_BYTES)?;
        if let Value::Object(index) = list {
            match &mut self.objects[index as usize] {
                Object::Sequence(values) => values.extend_from_slice(&self.stack[start..]),
                Object::Opaque(..) => {}
                _ => return Err("appends to what is no list".to_owned()),
            }
        }
        self.stack.truncate(start);
        Ok(())
    }

    fn set_items(&mut self, op: u8) -> Step<()> {
        let start = if op == b's' {
            self.stack.len().checked_sub(2).ok_or_else(underflow)?
        } else {
            self.marked()?.start
        };
        let count = self.stack.len() - start;
        if !count.is_multiple_of(2) {
            return Err("a key without a value".to_owned());
        }
        self.charge(count * VALUE_BYTES)?;
        let pairs = self.stack[start..].chunks_exact(2).map(|pair| (pair[0], pair[1]));
        if op == b'd' {
            let pairs = pairs.collect();
            self.stack.truncate(start);
            return self.make(Object::Dict(pairs));
        }
        match self.below(start)? {
            Value::Object(index) => match &mut self.objects[index as usize] {
                Object::Dict(dict) => dict.extend(pairs),
                Object::Opaque(..) => {}
                _ => return Err("sets items of what is no dictionary".to_owned()),
            },
            _ => return Err("sets items of what is no dictionary".to_owned()),
        }
        self.stack.truncate(start);
        Ok(())
    }

    /// The memo: BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
    fn remember(&mut self, op: u8) -> Step<()> {
        let index = match op {
            b'q' | b'h' => u32::from(self.byte()?),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => self.memo.len() as u32,
        };
        if matches!(op, b'h' | b'j') {
            let value = *self.memo.get(&index).ok_or_else(|| format!("nothing is kept under {index}"))?;
            return self.push(value);
        }
        let top = *self.stack.last().ok_or_else(underflow)?;
        self.charge(MEMO_BYTES)?;
        self.memo.insert(index, top);
        Ok(())
    }

    /// GLOBAL, STACK_GLOBAL: a name, nothing is imported.
    fn global(&mut self, op: u8) -> Step<()> {
        let (module, name) = if op == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (module, name) {
                (Value::Str(module), Value::Str(name)) => (module, name),
                _ => return Err("a class whose name is no text".to_owned()),
            }
        };
        self.make(Object::Global(module, name))
    }

    /// REDUCE, NEWOBJ, NEWOBJ_EX: a call of a function or class, which is made for those alone that describe tensors.
    fn reduce(&mut self, op: u8) -> Step<()> {
        if op == 0x92 {
            self.pop()?;
        }
        let (arguments, function) = (self.pop()?, self.pop()?);
        let global = match function {
            Value::Object(index) => match self.objects[index as usize] {
                Object::Global(module, name) => Some((module, name)),
                _ => None,
            },
            _ => None,
        };
        let (module, name) = global.ok_or("calls what is no function")?;
        let made = self.call(module, name, arguments)?;
        match made {
            Called::Object(object) => self.make(object),
            Called::Value(value) => self.push(value),
        }
    }

    fn call(&mut self, module: &'a str, name: &'a str, arguments: Value<'a>) -> Step<Called<'a>> {
        let arguments: &[Value<'a>] = self.sequence(arguments).ok_or("a call without a list of arguments")?;
        let called = match (module, name) {
            ("collections", "OrderedDict") => {
                let pairs = arguments.first().and_then(|&pairs| self.sequence(pairs)).unwrap_or_default();
                let pairs = pairs.iter().filter_map(|&pair| match self.sequence(pair)? {
                    [key, value] => Some((*key, *value)),
                    _ => None,
                });
                let pairs: Vec<(Value<'_>, Value<'_>)> = pairs.collect();
                self.charge(2 * pairs.len() * VALUE_BYTES)?;
                Called::Object(Object::Dict(pairs))
            }
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
                let view = self.view(arguments, name)?;
                self.charge(size_of::<View<'_>>() + 2 * size_of::<usize>() * view.shape.len())?;
                Called::Object(Object::Tensor(Box::new(view)))
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Called::Value(*arguments.first().ok_or("a parameter without a tensor")?)
            }
            ("torch", "Size") => Called::Value(*arguments.first().unwrap_or(&Value::None)),
            _ => Called::Object(Object::Opaque(module, name)),
        };
        Ok(called)
    }

    /// A tensor from `(storage, offset, size, stride, requires_grad, hooks, ...)`; the third version has its type next.
    fn view(&self, arguments: &[Value<'a>], function: &str) -> Step<View<'a>> {
        let [storage, offset, size, stride, rest @ ..] = arguments else {
            return Err(format!("`{function}` has {} arguments", arguments.len()));
        };
        let storage = match storage {
            Value::Object(index) => match self.objects[*index as usize] {
                Object::Storage(storage) => storage,
                _ => return Err("a tensor whose numbers are no storage".to_owned()),
            },
            _ => return Err("a tensor without a storage".to_owned()),
        };
        let dtype = match rest.get(2) {
            Some(Value::Object(index)) if function == "_rebuild_tensor_v3" => {
                match self.objects[*index as usize] {
                    Object::Global("torch", name) => Some(name),
                    _ => None,
                }
            }
            _ => None,
        };
        let offset = whole(*offset)?;
        Ok(View { storage, offset, shape: self.sides(*size)?, strides: self.sides(*stride)?, dtype })
    }

    fn sides(&self, value: Value<'a>) -> Step<Vec<usize>> {
        const MOST: usize = 64;
        let sides = self.sequence(value).filter(|sides| sides.len() <= MOST);
        sides.ok_or("a tensor without sides")?.iter().map(|&side| whole(side)).collect()
    }

    /// `("storage", class, key, location, length)`, and in old files a view of another storage.
    fn storage(&self, id: Value<'a>) -> Step<Storage<'a>> {
        let wrong = || "a persistent id that is no storage of tensors".to_owned();
        let parts = self.sequence(id).ok_or_else(wrong)?;
        let &[
            Value::Str("storage"),
            Value::Object(class),
            Value::Str(key),
            _,
            Value::Int(len),
            ref rest @ ..,
        ] = parts
        else {
            return Err(wrong());
        };
        if rest.iter().any(|view| !matches!(view, Value::None)) {
            return Err(
                "a storage that is part of another one: save the file with PyTorch 1 or later".to_owned()
            );
        }
        match self.objects[class as usize] {
            Object::Global("torch" | "torch.cuda" | "torch.storage", class) => Ok(Storage { class, key }),
            _ => Err(wrong()),
        }
    }

    fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Object(index) => match &self.objects[index as usize] {
                Object::Sequence(values) => Some(values),
                _ => None,
            },
            _ => None,
        }
    }

    /// Puts a tuple in the place of what the stack has from `start` on.
    fn tuple(&mut self, start: usize, values: Vec<Value<'a>>) -> Step<()> {
        self.charge(values.len() * VALUE_BYTES)?;
        self.stack.truncate(start);
        self.make(Object::Sequence(values))
    }

    fn make(&mut self, object: Object<'a>) -> Step<()> {
        self.charge(OBJECT_BYTES)?;
        self.objects.push(object);
        self.push(Value::Object(self.objects.len() as u32 - 1))
    }

    fn push(&mut self, value: Value<'a>) -> Step<()> {
        if self.stack.len() >= self.highest {
            self.charge(VALUE_BYTES)?;
            self.highest = self.stack.len() + 1;
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Step<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(underflow());
        }
        self.stack.pop().ok_or_else(underflow)
    }

    /// The value under a place of the stack.
    fn below(&self, start: usize) -> Step<Value<'a>> {
        start.checked_sub(1).and_then(|place| self.stack.get(place)).copied().ok_or_else(underflow)
    }

    /// What the stack has from its last mark on, whose mark is gone then; the values stay until the caller takes them off.
    fn marked(&mut self) -> Step<Range<usize>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        Ok(mark.ok_or_else(underflow)?..self.stack.len())
    }

    fn charge(&mut self, bytes: usize) -> Step<()> {
        self.budget = self.budget.checked_sub(bytes).ok_or(
            "more objects beside the weights than are read: save `model.state_dict()` and nothing else",
        )?;
        Ok(())
    }

    fn byte(&mut self) -> Step<u8> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("N bytes"))
    }

    fn take(&mut self, len: usize) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if len > rest.len() {
            return Err(format!("ends {} bytes too early: the file is cut off or damaged", len - rest.len()));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("a name without an end")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a name that is no text".to_owned())
    }
}

/// What a call gives.
enum Called<'a> {
    Object(Object<'a>),
    Value(Value<'a>),
}

fn underflow() -> String {
    "takes more values than there are".to_owned()
}

fn whole(value: Value<'_>) -> Step<usize> {
    match value {
        Value::Int(value) => {
            usize::try_from(value).map_err(|_| format!("a side, stride or place of {value} in a tensor"))
        }
        _ => Err("a side, stride or place in a tensor that is no whole number".to_owned()),
    }
}
