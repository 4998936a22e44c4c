//! Pages of HTML that stand alone: no script, no font, no picture from anywhere else, readable in light and in dark.
//!
//! What comes from outside (names of files and classes) goes in as text and is escaped here; only [`Html`] is markup. A
//! `Content-Security-Policy` in the page forbids all that it does not need.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ocelli_common::svg::escape;
use ocelli_common::text::printable;

/// Colours follow the page's theme; blue and vermilion (Okabe and Ito, 2008) are told apart by colour-blind people.
const STYLE: &str = include_str!("html/style.css");

/// Styles and pictures within the page, nothing else.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// Markup in the making. Text is escaped as it comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Html(String);

impl Html {
    /// Nothing yet.
    pub(crate) fn new() -> Html {
        Html::default()
    }

    /// Text from anywhere; control characters are shown, not obeyed.
    pub(crate) fn text(text: &str) -> Html {
        Html(escape(&printable(text)))
    }

    /// An element of a class with something in it; an empty class is left out.
    pub(crate) fn element(tag: &'static str, class: &'static str, inner: Html) -> Html {
        let attribute = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        Html(format!("<{tag}{attribute}>{}</{tag}>\n", inner.0))
    }

    /// An element with text in it.
    pub(crate) fn of(tag: &'static str, class: &'static str, text: &str) -> Html {
        Html::element(tag, class, Html::text(text))
    }

    /// A drawing that `ocelli_common::svg` made, which has escaped its texts.
    pub(crate) fn drawing(svg: &str) -> Html {
        Html(svg.to_owned())
    }

    /// Text of several lines, whose breaks stay.
    pub(crate) fn text_lines(text: &str) -> Html {
        Html(text.lines().map(|line| escape(&printable(line)) + "\n").collect())
    }

    /// A link to the part of the page at a place.
    pub(crate) fn link(place: &str, text: &str) -> Html {
        Html(format!("<a href=\"#{}\">{}</a>", escape(place), Html::text(text).0))
    }

    /// A part of the page at a place.
    pub(crate) fn placed(place: &str, inner: Html) -> Html {
        Html(format!("<div class=\"placed\" id=\"{}\">\n{}</div>\n", escape(place), inner.0))
    }

    /// A cell of a matrix, the darker the higher its shade (0 to 9), in the colour of right or of wrong answers.
    pub(crate) fn shaded_cell(shade: usize, right: bool, inner: Html) -> Html {
        let colour = if right { "right" } else { "wrong" };
        Html(format!("<td class=\"{colour} shade-{}\">{}</td>\n", shade.min(9), inner.0))
    }

    /// Adds more behind it.
    pub(crate) fn push(&mut self, more: Html) {
        self.0.push_str(&more.0);
    }

    /// The same with more behind it.
    pub(crate) fn and(mut self, more: Html) -> Html {
        self.push(more);
        self
    }

    /// The markup.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromIterator<Html> for Html {
    fn from_iter<I: IntoIterator<Item = Html>>(parts: I) -> Html {
        parts.into_iter().fold(Html::new(), Html::and)
    }
}

/// A whole page: its title, a line below it, and what it says.
pub(crate) fn page(title: &str, about: &str, body: &Html) -> String {
    let head = Html::of("h1", "", title).and(Html::of("p", "about", about));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         {}<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n{}</header>\n{}</main>\n</body>\n</html>\n",
        Html::of("title", "", title).as_str(),
        head.as_str(),
        body.as_str(),
    )
}

/// A part of a page under a heading.
pub(crate) fn section(heading: &str, inner: Html) -> Html {
    Html::element("section", "", Html::of("h2", "", heading).and(inner))
}

/// How the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Words.
    Text,
    /// Numbers, with digits below each other.
    Number,
}

/// A table with a row of headings.
pub(crate) fn table(columns: &[(&str, Column)], rows: impl IntoIterator<Item = Vec<Html>>) -> Html {
    let class = |column: Column| if column == Column::Number { "number" } else { "" };
    let head = columns.iter().map(|&(name, column)| Html::of("th", class(column), name)).collect();
    let row = |cells: Vec<Html>| {
        let cells = cells.into_iter().zip(columns);
        let cells = cells.map(|(cell, &(_, column))| Html::element("td", class(column), cell)).collect();
        Html::element("tr", "", cells)
    };
    let head = Html::element("thead", "", Html::element("tr", "", head));
    let body = Html::element("tbody", "", rows.into_iter().map(row).collect());
    Html::element("div", "scroll", Html::element("table", "", head.and(body)))
}

/// A bar that is filled to a part in 0..=1. The number stands beside it, so screen readers pass it over.
pub(crate) fn bar(part: f64) -> Html {
    let width = (part.clamp(0.0, 1.0) * 1000.0).round() / 10.0;
    Html(format!(
        "<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect width=\"{width}\" height=\"8\"/></svg>"
    ))
}

/// A picture within the page, or an empty box where there is none.
pub(crate) fn picture(png: &[u8], says: &str) -> Html {
    if png.is_empty() {
        return Html::element("span", "nothing", Html::new());
    }
    Html(format!(
        "<img src=\"data:image/png;base64,{}\" alt=\"{}\">",
        STANDARD.encode(png),
        escape(&printable(says))
    ))
}

/// Pictures in rows, each with lines of text below it.
pub(crate) fn pictures(all: impl IntoIterator<Item = (Html, Vec<Html>)>) -> Html {
    let one = |(picture, lines): (Html, Vec<Html>)| {
        let lines = lines.into_iter().map(|line| Html::element("span", "", line)).collect();
        Html::element("figure", "", picture.and(Html::element("figcaption", "", lines)))
    };
    Html::element("div", "pictures", all.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</td><script>alert(1)</script><img src=x onerror=\"a\">'&\u{1b}[2J";

    /// The tags of markup, in their order.
    fn tags(markup: &str) -> Vec<String> {
        let starts = markup.match_indices('<').map(|(at, _)| &markup[at + 1..]);
        let name = |rest: &str| rest.split(['>', ' ', '\n']).next().unwrap_or_default().to_owned();
        starts.map(name).filter(|name| !name.starts_with('/')).collect()
    }

    #[test]
    fn text_from_outside_is_never_markup() {
        let cells = vec![Html::text(HOSTILE), Html::text(HOSTILE)];
        let body = section(HOSTILE, table(&[(HOSTILE, Column::Text), ("n", Column::Number)], [cells]))
            .and(pictures([(picture(b"png", HOSTILE), vec![Html::text(HOSTILE)])]));
        let all = page(HOSTILE, HOSTILE, &body);
        let found = tags(&all);
        let known = [
            "!doctype",
            "html",
            "head",
            "meta",
            "meta",
            "meta",
            "meta",
            "title",
            "style",
            "body",
            "main",
            "header",
            "h1",
            "p",
            "section",
            "h2",
            "div",
            "table",
            "thead",
            "tr",
            "th",
            "th",
            "tbody",
            "tr",
            "td",
            "td",
            "div",
            "figure",
            "img",
            "figcaption",
            "span",
        ];
        assert_eq!(found, known);
        assert!(!all.contains("onerror=\"") && !all.contains('\u{1b}'), "{all}");
    }

    #[test]
    fn a_page_asks_for_nothing_outside_of_itself() {
        let all = page("t", "a", &bar(0.5).and(picture(b"png", "p")));
        for word in ["http://", "https://", "url(", "@import", "<script", "src=\"/", " style="] {
            assert!(!all.contains(word), "{word}");
        }
        assert!(all.contains("default-src 'none'"));
    }

    #[test]
    fn bars_stay_within_their_frame() {
        for (part, width) in [(-1.0, "0"), (0.0, "0"), (0.3333, "33.3"), (1.0, "100"), (7.0, "100")] {
            assert!(bar(part).as_str().contains(&format!("<rect width=\"{width}\"")), "{part}");
        }
    }
}
