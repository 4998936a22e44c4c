//! The wire format of protocol buffers, <https://protobuf.dev/programming-guides/encoding/>: fields of a number and a value,
//! read where they lie in the file and written to a vector.
//!
//! Nothing is copied and nothing is allocated for a message, so that a file of many empty messages costs no more than its own
//! bytes. Generated structs would take some hundred bytes for each two of such a file.

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field<'a> {
    /// Its number in the schema.
    pub(super) number: u32,
    /// What it holds.
    pub(super) value: Value<'a>,
}

/// What a field holds, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// An integer of any type, a bool or an enum.
    Varint(u64),
    /// Four bytes: a float.
    Four([u8; 4]),
    /// Eight bytes: a double.
    Eight([u8; 8]),
    /// A message, a string, bytes or packed numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message in their order; ends at the first that is damaged, see [`Fields::is_whole`].
#[derive(Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    is_damaged: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Fields { rest: message, is_damaged: false }
    }

    /// Whether all bytes of a message are fields.
    pub(super) fn is_whole(message: &'a [u8]) -> bool {
        let mut fields = Fields::new(message);
        fields.by_ref().for_each(drop);
        !fields.is_damaged
    }

    fn field(&mut self) -> Option<Field<'a>> {
        let key = varint(&mut self.rest)?;
        let number = u32::try_from(key >> 3).ok().filter(|&number| number > 0)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Eight(*take_array(&mut self.rest)?),
            2 => {
                let len = usize::try_from(varint(&mut self.rest)?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(len)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Four(*take_array(&mut self.rest)?),
            _ => return None,
        };
        Some(Field { number, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.rest.is_empty() || self.is_damaged {
            return None;
        }
        let field = self.field();
        self.is_damaged = field.is_none();
        field
    }
}

/// Numbers of a repeated field of varints, packed or not.
pub(super) fn varints(value: Value<'_>) -> impl Iterator<Item = i64> {
    let (one, mut packed) = match value {
        Value::Varint(one) => (Some(one), &[][..]),
        Value::Bytes(bytes) => (None, bytes),
        _ => (None, &[][..]),
    };
    one.into_iter().chain(std::iter::from_fn(move || varint(&mut packed))).map(|bits| bits as i64)
}

/// Numbers of a repeated field of floats, packed or not.
pub(super) fn floats(value: Value<'_>) -> impl Iterator<Item = f32> {
    let (one, packed) = match value {
        Value::Four(one) => (Some(one), &[][..]),
        Value::Bytes(bytes) => (None, bytes),
        _ => (None, &[][..]),
    };
    one.into_iter().chain(packed.as_chunks::<4>().0.iter().copied()).map(f32::from_le_bytes)
}

/// Numbers of a repeated field of doubles, packed or not.
pub(super) fn doubles(value: Value<'_>) -> impl Iterator<Item = f64> {
    let (one, packed) = match value {
        Value::Eight(one) => (Some(one), &[][..]),
        Value::Bytes(bytes) => (None, bytes),
        _ => (None, &[][..]),
    };
    one.into_iter().chain(packed.as_chunks::<8>().0.iter().copied()).map(f64::from_le_bytes)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        // The tenth byte has one bit left to give.
        number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take_array<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (array, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(array)
}

/// A message that is being written.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// Appends an integer.
    pub(super) fn int(&mut self, number: u32, value: i64) -> &mut Self {
        self.varint(u64::from(number) << 3);
        self.varint(value as u64);
        self
    }

    /// Appends a float.
    pub(super) fn float(&mut self, number: u32, value: f32) -> &mut Self {
        self.varint(u64::from(number) << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Appends bytes.
    pub(super) fn bytes(&mut self, number: u32, value: &[u8]) -> &mut Self {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// Appends a string.
    pub(super) fn text(&mut self, number: u32, value: &str) -> &mut Self {
        self.bytes(number, value.as_bytes())
    }

    /// Appends a message.
    pub(super) fn message(&mut self, number: u32, value: &Message) -> &mut Self {
        self.bytes(number, &value.0)
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Message::default();
        inner.text(1, "a").int(2, -1);
        let mut outer = Message::default();
        outer.int(1, 300).float(2, 0.5).message(15, &inner).int(4000, i64::MAX);
        let fields: Vec<Field<'_>> = Fields::new(&outer.0).collect();
        let expected = [
            Field { number: 1, value: Value::Varint(300) },
            Field { number: 2, value: Value::Four(0.5f32.to_le_bytes()) },
            Field { number: 15, value: Value::Bytes(&inner.0) },
            Field { number: 4000, value: Value::Varint(i64::MAX as u64) },
        ];
        assert_eq!(fields, expected);
        assert!(Fields::is_whole(&outer.0));
        let last = Fields::new(&inner.0).last().unwrap();
        assert_eq!(varints(last.value).collect::<Vec<_>>(), [-1]);
    }

    #[test]
    fn what_ends_early_is_damaged() {
        let mut message = Message::default();
        message.text(1, "abc").int(2, 300);
        let ends: Vec<usize> =
            (0..message.0.len()).filter(|&end| Fields::is_whole(&message.0[..end])).collect();
        assert_eq!(ends, [0, 5]);
        assert!(!Fields::is_whole(&[0x08; 1]) && !Fields::is_whole(&[0x0b, 0x00]));
        assert!(!Fields::is_whole(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]));
    }
}
