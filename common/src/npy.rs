//! Arrays of numbers as files of NumPy's format version 1.

use std::io::{self, Write};

/// Starts every `.npy` file of version 1.
const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// The array of an `.npy` file starts at a multiple of this.
const ALIGN: usize = 64;

/// A number of an array; little-endian.
pub trait Element: Copy {
    /// What NumPy calls it.
    const DESCR: &'static str;
    /// Bytes of one.
    const BYTES: usize;
    /// Writes one.
    fn write(self, out: &mut impl Write) -> io::Result<()>;
    /// Reads one from exactly [`Self::BYTES`] bytes.
    fn read(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($type:ty: $descr:literal),+) => {$(
        impl Element for $type {
            const DESCR: &'static str = $descr;
            const BYTES: usize = size_of::<$type>();

            fn write(self, out: &mut impl Write) -> io::Result<()> {
                out.write_all(&self.to_le_bytes())
            }

            fn read(bytes: &[u8]) -> Self {
                <$type>::from_le_bytes(bytes.try_into().expect("as many bytes as the caller promises"))
            }
        }
    )+};
}

elements!(f32: "<f4", u32: "<u4", u64: "<u8");

/// The bits of an IEEE 754 binary16, a number of two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half(pub u16);

impl Element for Half {
    const DESCR: &'static str = "<f2";
    const BYTES: usize = 2;

    fn write(self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.0.to_le_bytes())
    }

    fn read(bytes: &[u8]) -> Self {
        Half(u16::from_le_bytes(bytes.try_into().expect("as many bytes as the caller promises")))
    }
}

/// What stands before the numbers of an array.
fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let shape = match shape {
        [one] => format!("({one},)"),
        several => format!("({})", several.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    // Magic, length in two bytes, text, spaces, a line break.
    let start = MAGIC.len() + 2 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', start.next_multiple_of(ALIGN) - start));
    text.push('\n');
    let len = u16::try_from(text.len()).expect("some numbers take less than a thousand bytes");
    [MAGIC, &len.to_le_bytes(), text.as_bytes()].concat()
}

/// Writes an array, row by row.
///
/// # Errors
/// Those of `out`.
pub fn write<T: Element>(out: &mut impl Write, shape: &[usize], values: &[T]) -> io::Result<()> {
    debug_assert_eq!(shape.iter().product::<usize>(), values.len());
    out.write_all(&header(T::DESCR, shape))?;
    values.iter().try_for_each(|value| value.write(out))
}

/// Writes an array of texts, each in UTF-32 and filled up with zeros to the length of the longest, as NumPy has them.
///
/// # Errors
/// Those of `out`.
pub fn write_texts(out: &mut impl Write, texts: &[String]) -> io::Result<()> {
    let longest = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
    out.write_all(&header(&format!("<U{longest}"), &[texts.len()]))?;
    for text in texts {
        let letters = text.chars().map(u32::from).chain(std::iter::repeat(0)).take(longest);
        letters.into_iter().try_for_each(|letter| out.write_all(&letter.to_le_bytes()))?;
    }
    Ok(())
}

/// The numbers of an array that [`write()`] wrote; `None` for any other bytes, and for an array of another shape.
pub fn read<T: Element>(bytes: &[u8], shape: &[usize]) -> Option<Vec<T>> {
    let count = shape.iter().try_fold(T::BYTES, |count, &side| count.checked_mul(side))?;
    let values = bytes.strip_prefix(&*header(T::DESCR, shape))?;
    (values.len() == count).then(|| values.chunks_exact(T::BYTES).map(T::read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Element + PartialEq + std::fmt::Debug>(shape: &[usize], values: &[T]) {
        let mut bytes = Vec::new();
        write(&mut bytes, shape, values).unwrap();
        assert_eq!(read::<T>(&bytes, shape).unwrap(), values);
        assert_eq!((bytes.len() - values.len() * T::BYTES) % ALIGN, 0);
        bytes.push(0);
        assert!(read::<T>(&bytes, shape).is_none(), "one byte more");
        bytes.truncate(bytes.len() - 2);
        assert!(read::<T>(&bytes, shape).is_none(), "one byte less");
    }

    #[test]
    fn arrays_come_back_and_no_others_are_read() {
        round_trip(&[2, 3], &[1.5f32, -0.0, f32::MAX, 1e-40, 3.0, 4.0]);
        round_trip(&[0, 7], &[] as &[f32]);
        round_trip(&[3], &[1u32, u32::MAX, 7]);
        round_trip(&[1], &[u64::MAX]);
        let mut bytes = Vec::new();
        write(&mut bytes, &[2, 3], &[0.0f32; 6]).unwrap();
        assert!(read::<f32>(&bytes, &[3, 2]).is_none());
        assert!(read::<u32>(&bytes, &[2, 3]).is_none());
        assert!(read::<f32>(&bytes, &[usize::MAX, 3]).is_none());
        assert!(read::<f32>(b"", &[0]).is_none());
        round_trip(&[2], &[Half(0x3c00), Half(0xffff)]);
        assert!(bytes.starts_with(
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
        ));
    }

    #[test]
    fn texts_are_as_long_as_the_longest() {
        let mut bytes = Vec::new();
        write_texts(&mut bytes, &["ä".to_owned(), "bcd".to_owned()]).unwrap();
        let header = "{'descr': '<U3', 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(&bytes[10..10 + header.len()], header.as_bytes());
        let letters = ['ä', '\0', '\0', 'b', 'c', 'd'].map(|letter| (letter as u32).to_le_bytes()).concat();
        assert!(bytes.ends_with(&letters));
        assert_eq!((bytes.len() - letters.len()) % ALIGN, 0);
    }
}
