//! What rules make findings with.

use ocelli_common::text::count;

use super::super::report::{FileFound, Finding, Kind, Severity};

/// A finding about nothing in particular yet.
pub(super) fn finding(kind: Kind, severity: Severity, text: String, advice: &str) -> Finding {
    Finding {
        kind,
        severity,
        text,
        advice: advice.to_owned(),
        count: 1,
        classes: Vec::new(),
        files_total: 0,
        files: Vec::new(),
    }
}

impl Finding {
    /// About these files, each counted.
    pub(super) fn about_files(self, files: Vec<FileFound>) -> Finding {
        Finding { count: files.len(), files_total: files.len(), files, ..self }
    }

    /// About these groups of files, each counted.
    pub(super) fn about_groups(self, groups: Vec<Vec<FileFound>>) -> Finding {
        let count = groups.len();
        let numbered = groups.into_iter().zip(1..).flat_map(|(group, number)| {
            group.into_iter().map(move |file| FileFound { group: Some(number), ..file })
        });
        let files: Vec<FileFound> = numbered.collect();
        Finding { count, files_total: files.len(), files, ..self }
    }

    /// About these classes, each counted.
    pub(super) fn about_classes(self, classes: Vec<String>) -> Finding {
        Finding { count: classes.len(), classes, ..self }
    }
}

/// `1 file is`, `3 files are`.
pub(super) fn are(n: usize, noun: &str) -> String {
    let verb = if n == 1 { "is" } else { "are" };
    format!("{} {verb}", count(n, noun))
}
