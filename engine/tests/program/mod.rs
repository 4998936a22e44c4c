//! The machine code of the running program: its functions by name.

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// A function of a program.
pub(crate) struct Function {
    /// Its name, demangled.
    pub(crate) name: String,
    /// Where its code begins.
    pub(crate) address: u64,
    /// Its code.
    pub(crate) code: Vec<u8>,
}

/// The functions of the running program whose demangled names pass `filter`; none when its symbols were stripped.
///
/// # Errors
/// What is wrong with the file of the program.
pub(crate) fn functions(filter: impl Fn(&str) -> bool) -> Result<Vec<Function>, String> {
    let path = std::env::current_exe().map_err(|e| e.to_string())?;
    let data = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let file = object::File::parse(&*data).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0) {
        let Some(section) = symbol.section_index() else { continue };
        let name = symbol.name().map_err(|e| e.to_string())?;
        let name = format!("{:#}", rustc_demangle::demangle(name));
        if filter(&name) {
            let section = file.section_by_index(section).map_err(|e| e.to_string())?;
            let code = section.data_range(symbol.address(), symbol.size()).map_err(|e| e.to_string())?;
            let code = code.ok_or_else(|| format!("{name} lies outside of its section"))?;
            found.push(Function { name, address: symbol.address(), code: code.to_vec() });
        }
    }
    Ok(found)
}
