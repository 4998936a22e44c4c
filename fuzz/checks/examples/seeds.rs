//! Writes the seeds and the kept inputs of every kind to `FOLDER/KIND/`: the corpora that fuzzing starts from.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use ocelli_fuzz_checks::TARGETS;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: seeds FOLDER"))?);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kept");
    for target in &TARGETS {
        let own = folder.join(target.name);
        fs::create_dir_all(&own)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(own.join(format!("seed-{number}")), seed)?;
        }
        let Ok(files) = fs::read_dir(kept.join(target.name)) else { continue };
        for file in files {
            let path = file?.path();
            fs::copy(&path, own.join(format!("kept-{}", path.file_name().unwrap_or_default().display())))?;
        }
    }
    Ok(())
}
