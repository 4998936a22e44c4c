//! Writing one CSV field.

/// Appends a field, quoted where it holds a comma, a quote or a line break (RFC 4180).
pub(crate) fn field(text: &mut String, value: &str) {
    if value.contains([',', '"', '\n', '\r']) {
        text.push('"');
        text.push_str(&value.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn quotes_only_what_needs_it() {
        for (value, written) in
            [("a b", "a b"), ("a,b", "\"a,b\""), ("a\"b", "\"a\"\"b\""), ("a\nb", "\"a\nb\"")]
        {
            let mut text = String::new();
            super::field(&mut text, value);
            assert_eq!(text, written);
        }
    }
}
