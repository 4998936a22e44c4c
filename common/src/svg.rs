//! A little SVG: an element writer, colours for light and dark pages, and escaping.

use std::fmt::Write as _;

/// Text and line colours follow the page; blue and vermilion (Okabe and Ito, 2008) are told apart by colour-blind
/// people, and the validation line is dashed too.
const STYLE: &str = "\
svg{background:#fff;color:#1b1f24;font:12px system-ui,sans-serif}\
text{fill:currentColor}.title{font-size:15px;font-weight:600}.small{font-size:10px}\
.axis{stroke:currentColor;stroke-width:1;fill:none}.grid{stroke:currentColor;stroke-opacity:.15}\
.train{stroke:#0072b2;fill:none;stroke-width:2}.val{stroke:#d55e00;fill:none;stroke-width:2;stroke-dasharray:6 3}\
.dot-train{fill:#0072b2}.dot-val{fill:#d55e00}.best{stroke:currentColor;stroke-dasharray:2 3}\
.empty{fill:currentColor;fill-opacity:.05}\
@media(prefers-color-scheme:dark){svg{background:#15181c;color:#e6e8eb}\
.train{stroke:#56b4e9}.dot-train{fill:#56b4e9}.val{stroke:#e69f00}.dot-val{fill:#e69f00}}";

/// Where a text hangs on its point.
#[derive(Clone, Copy)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

/// A drawing in the making.
pub struct Svg {
    text: String,
}

impl Svg {
    /// A drawing of some pixels with a title that screen readers say.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let mut svg = Svg { text: String::new() };
        svg.push(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\">\n<title>{2}</title>\n<style>{STYLE}</style>\n",
            round(width),
            round(height),
            escape(title),
        ));
        svg
    }

    /// What the drawing shows, for those who do not see it. Comes first.
    pub fn describe(&mut self, text: &str) {
        self.push(format_args!("<desc>{}</desc>\n", escape(text)));
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(round);
        self.push(format_args!(
            "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>\n"
        ));
    }

    /// A line through points.
    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|&(x, y)| format!("{},{}", round(x), round(y))).collect();
        self.push(format_args!("<polyline class=\"{class}\" points=\"{}\"/>\n", points.join(" ")));
    }

    /// A filled circle.
    pub fn circle(&mut self, class: &str, centre: (f64, f64), radius: f64) {
        let [x, y, r] = [centre.0, centre.1, radius].map(round);
        self.push(format_args!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\"/>\n"));
    }

    /// A rectangle with a style or class attribute and what a pointer resting on it shows.
    pub fn rect(&mut self, paint: &str, corner: (f64, f64), size: (f64, f64), hover: &str) {
        let [x, y, w, h] = [corner.0, corner.1, size.0, size.1].map(round);
        self.push(format_args!(
            "<rect {paint} x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"><title>{}</title></rect>\n",
            escape(hover)
        ));
    }

    /// A picture, given by its address, fitted into a box; small ones keep their hard pixels.
    pub fn image(&mut self, address: &str, corner: (f64, f64), size: (f64, f64), hover: &str) {
        let [x, y, w, h] = [corner.0, corner.1, size.0, size.1].map(round);
        self.push(format_args!(
            "<image href=\"{}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" style=\"image-rendering:pixelated\"><title>{}</title></image>\n",
            escape(address),
            escape(hover)
        ));
    }

    /// A text on one line.
    pub fn label(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        self.styled_label(&format!("class=\"{class}\""), at, anchor, text);
    }

    /// A text with attributes of its own.
    pub fn styled_label(&mut self, attributes: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let [x, y] = [at.0, at.1].map(round);
        self.push(format_args!(
            "<text {attributes} x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>\n",
            escape(text)
        ));
    }

    /// The drawing as one element.
    pub fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    fn push(&mut self, piece: std::fmt::Arguments) {
        self.text.write_fmt(piece).expect("writing to a string cannot fail");
    }
}

/// Tenths of a pixel are enough, and keep files small.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Text for elements and attributes; characters that XML 1.0 forbids become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() && !"\t\n\r".contains(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A text of at most `limit` characters.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// Round numbers that cover `low..=high`, about `wanted` of them, at least two.
pub fn ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let span = (high - low).max(high.abs() * 1e-6).max(1e-9);
    let raw = span / wanted as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= raw * 0.999).unwrap_or(raw);
    let (first, mut last) = ((low / step).floor(), (high / step).ceil());
    if last <= first {
        last = first + 1.0;
    }
    (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect()
}

/// A tick's text with as many digits as the axis needs.
pub fn number(value: f64, span: f64) -> String {
    let digits = (2.0 - span.log10().floor()).clamp(0.0, 8.0) as usize;
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use ocelli_testing::xml::elements;

    use super::*;

    #[test]
    fn hostile_texts_stay_texts() {
        let hostile = "</text><script>alert(\"1\")</script>&'\u{0}\u{ffff}";
        let mut svg = Svg::new(10.0, 10.0, hostile);
        svg.label("small", (1.0, 2.0), Anchor::Middle, hostile);
        svg.rect("class=\"empty\"", (0.0, 0.0), (1.0, 1.0), hostile);
        assert_eq!(elements(&svg.finish()), ["svg", "title", "style", "text", "rect", "title"]);
    }

    #[test]
    fn ticks_cover_the_range_with_few_round_numbers() {
        for (low, high) in
            [(0.0, 1.0), (0.83, 0.91), (1.0, 1.0), (0.0, 0.0), (-3.0, 1e6), (1e-7, 2e-7), (1.0, 40.0)]
        {
            let ticks = ticks(low, high, 5);
            assert!((2..=8).contains(&ticks.len()), "{low} {high} {ticks:?}");
            let slack = (high - low).abs().max(1e-9) * 1e-6;
            assert!(ticks[0] <= low + slack && ticks[ticks.len() - 1] >= high - slack, "{ticks:?}");
        }
        let texts =
            |low, high| ticks(low, high, 5).into_iter().map(|t| number(t, high - low)).collect::<Vec<_>>();
        assert_eq!(texts(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(texts(0.83, 0.91), ["0.82", "0.84", "0.86", "0.88", "0.9", "0.92"]);
    }

    #[test]
    fn shorten_counts_characters() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüß", 3), "äö…");
    }
}
