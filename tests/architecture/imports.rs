//! Which source file of a crate imports which, read from the paths in their text.
//!
//! A path leads to the file that defines what it names: re-exports are followed. Declaring a module is no import, and
//! what only tests import does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The name of a module: its path from the root of the crate.
type Module = Vec<String>;

/// The files of a crate and the imports between them.
pub(super) struct Imports {
    /// Paths below the crate's source folder, with the files that each imports.
    pub(super) files: BTreeMap<String, BTreeSet<String>>,
}

/// A path in a source, and the name by which the file knows what it leads to.
struct Use {
    path: Vec<String>,
    name: String,
    /// Handed on to others, which is no import of the file itself.
    is_export: bool,
}

struct Source {
    file: String,
    uses: Vec<Use>,
    /// Other paths in the text that begin at a module.
    mentions: Vec<Vec<String>>,
}

impl Imports {
    /// Reads the sources below a folder.
    pub(super) fn of_crate(folder: &Path, sources: Vec<(PathBuf, String)>) -> Imports {
        let below =
            |path: &Path| path.strip_prefix(folder).expect("found in the folder").display().to_string();
        Imports::read(&sources.into_iter().map(|(path, text)| (below(&path), text)).collect::<Vec<_>>())
    }

    /// Reads sources, given with their paths below the crate's source folder.
    pub(super) fn read(sources: &[(String, String)]) -> Imports {
        let is_test =
            |file: &str| file.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "testing.rs"));
        let sources = sources.iter().filter(|(file, _)| !is_test(file));
        let modules: BTreeMap<Module, Source> = sources
            .map(|(file, text)| {
                let tokens = without_tests(tokens(text));
                let (uses, mentions) = paths(&tokens);
                (module_of(file), Source { file: file.clone(), uses, mentions })
            })
            .collect();
        let mut files = BTreeMap::new();
        for (module, source) in &modules {
            let own = source.uses.iter().filter(|one| !one.is_export).map(|one| &one.path);
            let named = own.chain(&source.mentions);
            let targets = named.filter_map(|path| defining(&modules, module, path, 0));
            let others = targets.filter(|file| *file != source.file).collect();
            files.insert(source.file.clone(), others);
        }
        Imports { files }
    }

    /// Groups of files that import each other in a circle.
    pub(super) fn circles(&self) -> Vec<Vec<String>> {
        circles(&self.files)
    }

    /// Groups of neighbours in one folder, files and folders, that import each other in a circle; a module's own file
    /// stands in its folder.
    pub(super) fn folder_circles(&self) -> Vec<Vec<String>> {
        let folders: BTreeSet<String> = self.files.keys().flat_map(|file| ancestors(file)).collect();
        let mut found = Vec::new();
        for folder in folders {
            let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for (from, targets) in &self.files {
                let Some(from) = room(&folder, from) else { continue };
                let targets = targets.iter().filter_map(|to| room(&folder, to)).filter(|to| *to != from);
                rooms.entry(from.clone()).or_default().extend(targets);
            }
            found.extend(circles(&rooms));
        }
        found
    }
}

/// The file that defines what a path leads to; `None` for paths out of the crate.
fn defining(
    modules: &BTreeMap<Module, Source>,
    from: &Module,
    path: &[String],
    depth: usize,
) -> Option<String> {
    let (mut at, rest) = match path.first()?.as_str() {
        "crate" => (Vec::new(), &path[1..]),
        "self" => (from.clone(), &path[1..]),
        "super" => {
            let up = path.iter().take_while(|part| *part == "super").count();
            (from[..from.len().checked_sub(up)?].to_vec(), &path[up..])
        }
        first => {
            let mut child = from.clone();
            child.push(first.to_owned());
            // A path that begins with neither is a module's child or what a `use` brought, which counts by itself.
            modules.contains_key(&child).then_some(())?;
            (from.clone(), path)
        }
    };
    let mut rest = rest.iter();
    let mut next = rest.next();
    while let Some(part) = next {
        at.push(part.clone());
        if !modules.contains_key(&at) {
            at.pop();
            break;
        }
        next = rest.next();
    }
    let source = modules.get(&at)?;
    // Nobody re-exports in more steps than this.
    if let (Some(name), true) = (next, depth < 8) {
        let remaining: Vec<String> = rest.cloned().collect();
        let given = source.uses.iter().find(|one| one.name == *name && !(at == *from && one.path == path));
        let longer = given.map(|one| one.path.iter().cloned().chain(remaining).collect::<Vec<_>>());
        if let Some(file) = longer.and_then(|path| defining(modules, &at, &path, depth + 1)) {
            return Some(file);
        }
    }
    Some(source.file.clone())
}

fn module_of(file: &str) -> Module {
    let stem = file.trim_end_matches(".rs");
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if matches!(stem, "lib" | "main") { Vec::new() } else { stem.split('/').map(str::to_owned).collect() }
}

fn ancestors(file: &str) -> Vec<String> {
    let parts: Vec<&str> = file.split('/').collect();
    (0..parts.len()).map(|n| parts[..n].join("/")).collect()
}

/// The file or folder directly in `folder` that `file` is or stands in.
fn room(folder: &str, file: &str) -> Option<String> {
    let below = if folder.is_empty() { file } else { file.strip_prefix(folder)?.strip_prefix('/')? };
    let first = below.split('/').next()?.trim_end_matches(".rs");
    Some(if folder.is_empty() { first.to_owned() } else { format!("{folder}/{first}") })
}

/// Strongly connected groups of more than one node.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reach = |start: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(node) = open.pop() {
            let targets = graph.get(node).into_iter().flatten();
            open.extend(targets.filter(|target| seen.insert((*target).clone())));
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|node| (node, reach(node))).collect();
    let mut groups = BTreeSet::new();
    for (node, seen) in &reached {
        if seen.contains(*node) {
            let both = |other: &&String| reached.get(other).is_some_and(|back| back.contains(*node));
            groups.insert(seen.iter().filter(both).cloned().collect::<Vec<_>>());
        }
    }
    groups.into_iter().collect()
}

/// Names, `::` and single signs; comments, strings and attributes left out, `#[cfg(test)]` kept as one token.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut i) = (Vec::new(), 0);
    let starts = |i: usize, word: &str| word.chars().enumerate().all(|(n, c)| chars.get(i + n) == Some(&c));
    while i < chars.len() {
        let c = chars[i];
        if starts(i, "//") {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if starts(i, "/*") {
            while i < chars.len() && !starts(i, "*/") {
                i += 1;
            }
            i += 2;
        } else if c == 'r' && (starts(i, "r\"") || starts(i, "r#\"")) {
            let end = if starts(i, "r#") { "\"#" } else { "\"" };
            i += end.len() + 1;
            while i < chars.len() && !starts(i, end) {
                i += 1;
            }
            i += end.len();
        } else if c == '"' {
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c == '\'' && chars.get(i + 1) == Some(&'\\') {
            i += 3;
            while i < chars.len() && chars[i] != '\'' {
                i += 1;
            }
            i += 1;
        } else if c == '\'' && chars.get(i + 2) == Some(&'\'') {
            i += 3;
        } else if starts(i, "#[cfg(test)]") {
            found.push("#[cfg(test)]".to_owned());
            i += "#[cfg(test)]".len();
        } else if c.is_alphanumeric() || c == '_' {
            let start = i;
            while i < chars.len() && (chars[i].is_alphanumeric() || chars[i] == '_') {
                i += 1;
            }
            found.push(chars[start..i].iter().collect());
        } else if starts(i, "::") {
            found.push("::".to_owned());
            i += 2;
        } else {
            if !c.is_whitespace() {
                found.push(c.to_string());
            }
            i += 1;
        }
    }
    found
}

/// The tokens without items that are for tests alone.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let (mut kept, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        if tokens[i] != "#[cfg(test)]" {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        let mut depth = 0;
        i += 1;
        while i < tokens.len() {
            let token = tokens[i].as_str();
            i += 1;
            match token {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => (),
            }
            if depth == 0 && matches!(token, "}" | ";") {
                break;
            }
        }
    }
    kept
}

/// The paths of `use` items, and all other paths.
fn paths(tokens: &[String]) -> (Vec<Use>, Vec<Vec<String>>) {
    let (mut uses, mut mentions, mut i) = (Vec::new(), Vec::new(), 0);
    while i < tokens.len() {
        if tokens[i] == "use" {
            let mut end = i + 1;
            while end < tokens.len() && tokens[end] != ";" {
                end += 1;
            }
            // `pub use`, `pub(crate) use`.
            let is_export = i > 0 && (tokens[i - 1] == "pub" || tokens[i - 1] == ")");
            tree(&tokens[i + 1..end], &[], is_export, &mut uses);
            i = end;
        } else if tokens.get(i + 1).is_some_and(|next| next == "::") && is_name(&tokens[i]) {
            let mut path = vec![tokens[i].clone()];
            while tokens.get(i + 1).is_some_and(|next| next == "::")
                && tokens.get(i + 2).is_some_and(|name| is_name(name))
            {
                path.push(tokens[i + 2].clone());
                i += 2;
            }
            mentions.push(path);
            i += 1;
        } else {
            i += 1;
        }
    }
    (uses, mentions)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Adds the paths of a tree such as `a::{b, c as d}` behind `prefix`.
fn tree(tokens: &[String], prefix: &[String], is_export: bool, uses: &mut Vec<Use>) {
    if tokens.is_empty() {
        // Behind the last comma.
        return;
    }
    let mut path = prefix.to_vec();
    let mut i = 0;
    while i < tokens.len() {
        match tokens[i].as_str() {
            "::" => i += 1,
            "{" => {
                let (mut depth, mut start) = (0, i + 1);
                for at in i + 1..tokens.len() {
                    match tokens[at].as_str() {
                        "{" => depth += 1,
                        "}" if depth == 0 => {
                            tree(&tokens[start..at], &path, is_export, uses);
                            return;
                        }
                        "}" => depth -= 1,
                        "," if depth == 0 => {
                            tree(&tokens[start..at], &path, is_export, uses);
                            start = at + 1;
                        }
                        _ => (),
                    }
                }
                return;
            }
            "as" => {
                let name = tokens.get(i + 1).cloned().unwrap_or_default();
                return uses.push(Use { path, name, is_export });
            }
            "*" => return uses.push(Use { path, name: "*".to_owned(), is_export }),
            name => {
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                i += 1;
            }
        }
    }
    if let Some(name) = path.last().cloned() {
        uses.push(Use { path, name, is_export });
    }
}
