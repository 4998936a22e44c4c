//! Heat maps as text.

use ocelli_pipeline::explain::{HeatMap, colour};

use crate::output::Paint;

/// Most places along a side.
const SIDE: usize = 16;
/// From nothing to the most.
const SHADES: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];

/// The lines of a map of an image of `size` pixels; a place takes two characters, which are about as wide as a line is high.
pub(super) fn lines(map: &HeatMap, size: (usize, usize), paint: Paint) -> Vec<String> {
    let map = map.for_image(size, SIDE);
    let place = |&value: &f32| {
        let shade = SHADES[((value * SHADES.len() as f32) as usize).min(SHADES.len() - 1)];
        paint.on(colour(value), format_args!("{shade}{shade}"))
    };
    map.values.chunks_exact(map.width).map(|row| row.iter().map(place).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_values_are_darker_characters() {
        let map = HeatMap { width: 4, height: 1, values: vec![0.0, 0.31, 0.99, 1.0] };
        assert_eq!(lines(&map, (4, 1), Paint::none()), ["  --@@@@"]);
        let map = HeatMap { width: 1, height: 1, values: vec![0.5] };
        let all = lines(&map, (100, 50), Paint::none());
        assert_eq!((all.len(), all[0].as_str()), (8, "+".repeat(32).as_str()));
    }
}
