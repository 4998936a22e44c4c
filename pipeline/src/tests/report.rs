//! `report.html`: every number of a mistake leads to its pictures, and nothing from outside is markup.

use std::collections::BTreeSet;
use std::fs;

use super::{folder_data, options, recipe, train_quietly};
use crate::{AugmentLevel, Recipe};

const HOSTILE: &str = "<img src=x onerror=alert(1)>";

/// What stands between `before` and the next quote, everywhere in a text.
fn all<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    text.split(before).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn numbers_of_mistakes_lead_to_their_pictures() {
    let dir = tempfile::tempdir().unwrap();
    // Two classes of one pattern: half of their images are taken for the other one.
    let data = folder_data(dir.path(), &[("bars", 0), (HOSTILE, 0), ("checks", 2)], 30, 5);
    let recipe = Recipe { epochs: 3, augment: AugmentLevel::None, test_split: 0.4, ..recipe() };
    let outcome = train_quietly(&options(&dir, data, recipe));
    let evaluation = outcome.evaluation.unwrap();
    let page = fs::read_to_string(outcome.run_dir.join("report.html")).unwrap();
    let links = all(&page, "href=\"#");
    let places: BTreeSet<&str> = all(&page, "id=\"").into_iter().collect();
    let mut cells = 0;
    for (label, row) in evaluation.confusion.iter().enumerate() {
        cells += row.iter().enumerate().filter(|&(predicted, &n)| predicted != label && n > 0).count();
    }
    assert!(cells > 0, "the test needs mistakes");
    assert_eq!(links.len(), cells);
    assert!(links.iter().all(|link| places.contains(link)), "{links:?} {places:?}");
    // A picture for every mistake, another and a heat map for the worst ones, and the batch.
    let wrong = evaluation.predictions.iter().filter(|row| row.label != row.predicted).count();
    assert_eq!(all(&page, "<img src=\"data:image/png;base64,").len(), wrong + 2 * evaluation.worst.len() + 1);
    assert!(!page.contains(HOSTILE) && page.contains("&lt;img src=x onerror"), "class names are text");
    for word in ["http://", "https://", "<script"] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(word), "{word}");
    }
    let recipe = fs::read_to_string(outcome.run_dir.join("recipe.toml")).unwrap();
    let first = recipe.lines().next().unwrap().replace('"', "&quot;");
    assert!(page.contains(&first), "{first}");
}

#[test]
fn a_model_without_mistakes_has_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder_data(dir.path(), &[("bars", 0), ("checks", 2)], 20, 5);
    let outcome = train_quietly(&options(&dir, data, Recipe { epochs: 8, test_split: 0.3, ..recipe() }));
    assert_eq!(outcome.evaluation.unwrap().accuracy, 1.0, "the test needs an easy set");
    let page = fs::read_to_string(outcome.run_dir.join("report.html")).unwrap();
    assert!(page.contains("There are no mistakes.") && all(&page, "href=\"#").is_empty());
}
