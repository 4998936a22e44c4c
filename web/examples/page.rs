//! Writes the page of a model: `page MODEL.ocelli PAGE.html [PROGRAM.wasm]`. With a program it takes that one in place of
//! the one in this crate: `tests/browser/web` tries both.

use std::env;
use std::error::Error;
use std::fs;

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<String> = env::args().skip(1).collect();
    let (model, out, program) = match &given[..] {
        [model, out] => (model, out, None),
        [model, out, program] => (model, out, Some(program)),
        _ => return Err("usage: page MODEL.ocelli PAGE.html [PROGRAM.wasm]".into()),
    };
    let bytes = fs::read(model)?;
    let page = match program {
        Some(program) => ocelli_web::page_with(&fs::read(program)?, &bytes, "Ocelli")?,
        None => ocelli_web::page(&bytes, "Ocelli")?,
    };
    fs::write(out, page)?;
    Ok(())
}
