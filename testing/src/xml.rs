//! XML of the small kind that charts and pages are.

/// Checks that a text is one well-formed XML element tree of the small kind that reports are, and gives
/// the names of its elements.
///
/// # Panics
/// Where it is not.
pub fn elements(xml: &str) -> Vec<String> {
    let (mut open, mut all, mut rest) = (Vec::new(), Vec::new(), xml);
    while let Some(at) = rest.find('<') {
        check_text(&rest[..at]);
        let end = at + rest[at..].find('>').expect("an unclosed tag");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{name}");
        // Quotes pair up, and every odd piece is a value.
        let pieces: Vec<&str> = attributes.split('"').collect();
        assert!(pieces.len() % 2 == 1, "{attributes}");
        for pair in pieces.chunks_exact(2) {
            assert!(pair[0].ends_with('='), "{attributes}");
            check_text(pair[1]);
        }
        all.push(name.to_owned());
        if !empty {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    assert!(!xml.contains("NaN") && !xml.contains("inf\""), "a number is missing");
    all
}

fn check_text(text: &str) {
    for (at, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        assert!(known.iter().any(|k| text[at..].starts_with(k)), "{text}");
    }
    assert!(text.chars().all(|c| !c.is_control() || "\t\n\r".contains(c)));
}
