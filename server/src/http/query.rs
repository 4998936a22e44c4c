//! Query strings. What a route does not know is refused, so that a misspelt `topk=3` does not go unnoticed.

use std::ops::RangeInclusive;

use crate::http::problem::Problem;

/// Most parameters of a query string.
const MAX_PARAMETERS: usize = 32;

/// The parameters of one request, percent-decoded. Routes take what they know and then [`Query::finish`].
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Result<Query, Problem> {
        let parsed = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let pairs: Vec<(String, String)> = parsed
            .take(MAX_PARAMETERS + 1)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        if pairs.len() > MAX_PARAMETERS {
            return Err(Problem::BadQuery(format!("more than {MAX_PARAMETERS} query parameters")));
        }
        Ok(Query { pairs, known: Vec::new() })
    }

    /// The text of a parameter.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        self.known.push(name);
        let mut found = None;
        while let Some(at) = self.pairs.iter().position(|(own, _)| own == name) {
            if found.replace(self.pairs.swap_remove(at).1).is_some() {
                return Err(Problem::BadQuery(format!("{name} is given twice")));
            }
        }
        Ok(found)
    }

    /// The number of a parameter.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        // `parse` takes a plus sign.
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse().ok().filter(|number| plain && range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(Problem::BadQuery(format!(
                "{name} must be a number from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }

    /// Refuses what nobody has taken.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        Err(Problem::BadQuery(match self.known.as_slice() {
            [] => "this path takes no query parameters".to_owned(),
            known => format!("the query parameters of this path are: {}", known.join(", ")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_parameters_pass() {
        let mut query = Query::parse(Some("a=x%20y+z&n=7&")).unwrap();
        assert_eq!(query.text("a").unwrap().as_deref(), Some("x y z"));
        assert_eq!((query.number("n", 1..=9).unwrap(), query.number("m", 1..=9).unwrap()), (Some(7), None));
        query.finish().unwrap();
        for (text, part) in [
            ("b=1", "are: a, n"),
            ("a=1&a=2", "twice"),
            ("n=0", "1 to 9"),
            ("n=+3", "1 to 9"),
            ("n=", "1 to 9"),
        ] {
            let mut query = Query::parse(Some(text)).unwrap();
            let result = query.text("a").and_then(|_| query.number("n", 1..=9)).and_then(|_| query.finish());
            let Err(Problem::BadQuery(reason)) = result else { panic!("{text} passes") };
            assert!(reason.contains(part), "{text}: {reason}");
        }
        assert!(Query::parse(Some(&"a&".repeat(100))).is_err());
    }
}
