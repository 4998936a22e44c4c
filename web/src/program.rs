//! The WebAssembly program that pages carry.

/// Made by `make web`; `make test-web` says when it is older than the sources.
pub(crate) const PROGRAM: &[u8] = include_bytes!("../ocelli_web.wasm");

/// The name of the section in which a program says which model files it reads.
const SECTION: &[u8] = b"ocelli-model-format";

/// The newest model-file format that a program reads. `None` for bytes that are no such program.
pub(crate) fn model_format(program: &[u8]) -> Option<u32> {
    let mut rest = program.strip_prefix(b"\0asm\x01\0\0\0")?;
    while let Some((&kind, behind)) = rest.split_first() {
        let (len, behind) = number(behind)?;
        let section = behind.get(..len)?;
        rest = &behind[len..];
        if kind == 0 {
            let (name_len, behind) = number(section)?;
            let (name, content) = behind.split_at_checked(name_len)?;
            if name == SECTION {
                return Some(u32::from_le_bytes(content.try_into().ok()?));
            }
        }
    }
    None
}

/// A number in LEB128 of at most 32 bits, and what is behind it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocelli_engine::model_file::FORMAT_VERSION;

    #[test]
    fn the_program_reads_the_model_files_that_this_engine_writes() {
        let found = model_format(PROGRAM).expect("web/ocelli_web.wasm says which model files it reads");
        assert_eq!(
            found, FORMAT_VERSION,
            "web/ocelli_web.wasm is older than the engine: `make web` builds it again"
        );
    }

    #[test]
    fn sections_are_read_within_their_ends() {
        let mut program = b"\0asm\x01\0\0\0".to_vec();
        program.extend([1, 2, 9, 9]);
        program.extend([0, 24, 19]);
        program.extend(SECTION);
        program.extend([7, 0, 0, 0]);
        assert_eq!(model_format(&program), Some(7));
        for len in 0..program.len() {
            assert_eq!(model_format(&program[..len]), None, "{len} bytes");
        }
        program[9] = 0xFF;
        assert_eq!(model_format(&program), None);
        assert_eq!(model_format(b"\0asm\x01\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF"), None);
    }
}
