//! The decoder for programs of other languages: names of image files on standard input, one a line; for each one an
//! answer on standard output, `image WIDTH HEIGHT CHANNELS BYTES_PER_VALUE` and then the values (16 bits: lowest byte
//! first), or `refused REASON`. `tests/decoding` compares the answers with another decoder's.
#![forbid(unsafe_code)]

use ocelli_datasets::{DecodeLimits, Image, Pixels, decode, probe};
use std::io::{self, BufRead, Write};

fn main() -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for name in io::stdin().lock().lines() {
        let bytes = std::fs::read(name?)?;
        match decoded(&bytes) {
            Ok(Image { width, height, channels, pixels }) => {
                let (size, values) = match pixels {
                    Pixels::U8(values) => (1, values),
                    Pixels::U16(values) => (2, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
                };
                writeln!(out, "image {width} {height} {channels} {size}")?;
                out.write_all(&values)?;
            }
            Err(reason) => writeln!(out, "refused {reason}")?,
        }
        out.flush()?;
    }
    Ok(())
}

/// The image, if what its header says of it is true.
fn decoded(bytes: &[u8]) -> Result<Image, String> {
    let limits = DecodeLimits::default();
    let image = decode(bytes, &limits).map_err(|e| e.to_string())?;
    let header = probe(bytes, &limits).map_err(|e| format!("by its header alone: {e}"))?;
    let said = (header.width, header.height, header.channels);
    let is = (image.width, image.height, image.channels);
    if said == is { Ok(image) } else { Err(format!("the header says {said:?} and the image is {is:?}")) }
}
