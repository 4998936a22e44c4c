//! Where pictures are written: under names of their own, and never over what is there unless that is asked for.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What stands behind the name of an image in that of its picture.
const MARK: &str = ".explain";

/// Names for pictures.
pub(super) struct Names {
    place: Place,
    overwrite: bool,
    taken: HashSet<PathBuf>,
}

enum Place {
    Folder(PathBuf),
    /// The one picture there will be.
    File(PathBuf),
}

impl Names {
    /// For `count` pictures: in the folder or the file that was asked for, else in the current folder. A folder is made.
    ///
    /// # Errors
    /// A usage error for one file where there are several pictures, and for a name that is neither a folder nor a PNG.
    pub(super) fn new(out: Option<&Path>, count: usize, overwrite: bool) -> Result<Names, Failure> {
        let place = match out {
            None => Place::Folder(PathBuf::new()),
            Some(path) if path.is_dir() => Place::Folder(path.to_owned()),
            Some(path) if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                fs::create_dir_all(path).map_err(|error| Failure::io(path, &error))?;
                Place::Folder(path.to_owned())
            }
            Some(path) if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("png")) => {
                let name = path.display();
                return Err(Failure::usage(
                    format!("{name}: neither a folder that is there nor a name for a PNG"),
                    format!("-o {name}/ makes a folder, -o {name}.png writes a file"),
                ));
            }
            Some(path) if count > 1 => {
                return Err(Failure::usage(
                    format!("{}: one file, for {count} pictures", path.display()),
                    "name a folder with a slash at its end, e.g. -o maps/",
                ));
            }
            Some(path) => Place::File(path.to_owned()),
        };
        Ok(Names { place, overwrite, taken: HashSet::new() })
    }

    /// The file of the picture of an image or a folder: `NAME.explain.png`, numbered where an earlier one has that name.
    ///
    /// # Errors
    /// A file that is there already, unless it may be replaced.
    pub(super) fn next(&mut self, of: &Path) -> Result<PathBuf, Failure> {
        let path = match &self.place {
            Place::File(path) => path.clone(),
            Place::Folder(folder) => {
                let stem = stem(of);
                let numbered = |number: usize| {
                    let mut name = stem.clone();
                    name.push(MARK);
                    if number > 1 {
                        name.push(format!("-{number}"));
                    }
                    name.push(".png");
                    folder.join(name)
                };
                (1..).map(numbered).find(|path| !self.taken.contains(path)).expect("numbers do not end")
            }
        };
        if !self.overwrite && path.exists() {
            return Err(Failure::failed(
                format!("{}: there already", path.display()),
                "`--overwrite` replaces it, `-o FOLDER/` writes elsewhere",
            ));
        }
        self.taken.insert(path.clone());
        Ok(path)
    }
}

/// Whether a file has the name of a picture that this command writes.
pub(super) fn is_picture(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    let stem = name.and_then(|name| name.strip_suffix(".png"));
    stem.and_then(|stem| stem.rsplit_once(MARK)).is_some_and(|(_, number)| {
        number.is_empty() || number.strip_prefix('-').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// The name of an image without its extension, or of a folder.
fn stem(path: &Path) -> OsString {
    let named =
        |path: &Path| if path.is_dir() { path.file_name() } else { path.file_stem() }.map(OsStr::to_owned);
    let own = if path == Path::new("-") { None } else { named(path) };
    // Of `.` and `..`, the name of the folder that they are.
    let whole = || fs::canonicalize(path).ok().and_then(|path| named(&path));
    own.or_else(whole).unwrap_or_else(|| "image".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_names() {
        for (name, expected) in [
            ("cat.explain.png", true),
            ("a/b/cat.explain-12.png", true),
            ("cat.png", false),
            ("explain.png", false),
            ("cat.explain.jpg", false),
            ("cat.explained.png", false),
            ("cat.explain-a.png", false),
        ] {
            assert_eq!(is_picture(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn images_of_one_name_get_numbers() {
        let mut names = Names::new(None, 3, true).unwrap();
        let mut next = |of: &str| names.next(Path::new(of)).unwrap().display().to_string();
        assert_eq!(next("a/cat.jpg"), "cat.explain.png");
        assert_eq!(next("b/cat.png"), "cat.explain-2.png");
        assert_eq!(next("-"), "image.explain.png");
    }
}
