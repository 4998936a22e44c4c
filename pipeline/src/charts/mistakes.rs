//! `worst_mistakes.svg`: the images that the model is most wrong about, as the network sees them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ocelli_common::svg::{Anchor, Svg, shorten};
use ocelli_common::text::printable;

/// Pictures in a row.
const COLUMNS: usize = 5;
/// Side of a picture.
const SIDE: f64 = 112.0;
/// Width and height of its place, with two lines of text below it.
const WIDTH: f64 = 148.0;
const HEIGHT: f64 = 158.0;
/// Characters of a line below a picture.
const MAX_TEXT: usize = 22;

/// A mistake as it is drawn.
pub(crate) struct Picture<'a> {
    /// Path of the image.
    pub(crate) name: &'a str,
    /// The image; may be empty.
    pub(crate) png: &'a [u8],
    /// What it shows.
    pub(crate) label: &'a str,
    /// What it is taken for.
    pub(crate) said: String,
}

/// A page of pictures, worst first; each with what it shows, what it is taken for, and its path under the pointer.
pub(crate) fn worst_mistakes(name: &str, split: &str, worst: &[Picture]) -> String {
    let columns = worst.len().clamp(3, COLUMNS);
    let rows = worst.len().div_ceil(columns);
    let (width, top) = (columns as f64 * WIDTH + 16.0, 56.0);
    let mut svg = Svg::new(width, top + rows as f64 * HEIGHT + 8.0, &format!("Worst mistakes of {name}"));
    svg.label("title", (16.0, 24.0), Anchor::Start, &shorten(name, 44));
    let about = match worst.len() {
        0 => format!("{split} split: no mistakes"),
        n => format!("{split} split: the {n} mistakes with the highest loss"),
    };
    svg.label("small", (16.0, 42.0), Anchor::Start, &about);
    for (place, mistake) in worst.iter().enumerate() {
        let left = 16.0 + (place % columns) as f64 * WIDTH;
        let y = top + (place / columns) as f64 * HEIGHT;
        let hover = printable(mistake.name);
        svg.rect("class=\"empty\"", (left, y), (SIDE, SIDE), &hover);
        if !mistake.png.is_empty() {
            let address = format!("data:image/png;base64,{}", STANDARD.encode(mistake.png));
            svg.image(&address, (left, y), (SIDE, SIDE), &hover);
        }
        let label = shorten(&printable(mistake.label), MAX_TEXT);
        svg.label("small", (left, y + SIDE + 14.0), Anchor::Start, &label);
        let taken = format!("\u{2192} {}", shorten(&mistake.said, MAX_TEXT));
        svg.label("small", (left, y + SIDE + 27.0), Anchor::Start, &taken);
    }
    svg.finish()
}
