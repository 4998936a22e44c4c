//! How parts of a text report stand out, without knowing whether there are colours.

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// The head of a table.
    Head,
    /// What did not go well.
    Bad,
    /// What went well.
    Good,
    /// What was left out.
    Faint,
}

/// Gives a piece of text its tone.
pub type Paint<'a> = &'a dyn Fn(Tone, &str) -> String;
