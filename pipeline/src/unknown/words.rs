//! What a run says of its rule for unknown images.

use ocelli_engine::model_file::{Rejection, RejectionScore};

/// What is judged by, how many known images are lost by it, and what is known of the unknown ones.
pub(crate) fn about(rejection: &Rejection) -> String {
    let Rejection { score, false_rejects, images, detected, strange, .. } = rejection;
    let by = match score {
        RejectionScore::Inner => "what inner layers see of them",
        RejectionScore::Distance => "their distance from the classes",
        RejectionScore::Probability => "their probability",
    };
    // The largest of n images is exceeded by a new one in one of n + 1 cases, and there is no larger threshold.
    let fewest = 1.0 / (*images as f32 + 1.0);
    let rejected = format!("about {:.0} % of known ones are called so", 100.0 * false_rejects.max(fewest));
    let because = if fewest > *false_rejects {
        format!(", as {images} validation images allow no fewer")
    } else {
        String::new()
    };
    let found = match strange {
        0 => "how many unknown ones are found was not measured: images of other things in a folder _unknown_ beside \
              the classes would measure it"
            .to_owned(),
        n => format!("{:.0} % of the {n} images of no class are found", 100.0 * detected),
    };
    format!("unknown images are told by {by}: {rejected}{because}; {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_that_was_not_measured() {
        let mut rejection = Rejection {
            score: RejectionScore::Probability,
            threshold: 0.5,
            false_rejects: 0.05,
            images: 50,
            area: 0.9,
            detected: 0.75,
            strange: 0,
            means: Vec::new(),
            inner: Vec::new(),
        };
        let text = about(&rejection);
        assert!(text.contains("about 5 % of known ones") && text.contains("was not measured"), "{text}");
        assert!(!text.contains("75 %"), "{text}");
        rejection.strange = 40;
        let text = about(&rejection);
        assert!(text.contains("75 % of the 40 images of no class are found"), "{text}");
        rejection.images = 14;
        let text = about(&rejection);
        assert!(text.contains("about 7 % of known ones are called so, as 14 validation images"), "{text}");
    }
}
