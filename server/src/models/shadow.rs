//! A version that is asked what clients ask, and answers nobody: how often it says the same as what answered.
//!
//! One request at a time; those that come meanwhile are left out and counted, so that a shadow costs at most what one client
//! does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::IMAGES_CEILING;

/// After a load that failed.
const RETRY: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Shadow {
    /// All of them for one request.
    slots: Arc<Semaphore>,
    counts: Mutex<Counts>,
}

/// What a shadow has said so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct Agreement {
    /// The shadow.
    version: String,
    /// Since when it is counted, in seconds since 1970-01-01 UTC.
    since: u64,
    /// Images that both were asked about.
    images: u64,
    /// Of those, images of which both name the same class as the likeliest one.
    agree: u64,
    /// The same for each class, by what was answered.
    classes: BTreeMap<String, ClassAgreement>,
    /// Images that the shadow was not asked about, as it had enough to do.
    left_out: u64,
    /// Images that it failed on.
    failed: u64,
    /// Why it is not asked, if so.
    problem: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
struct ClassAgreement {
    images: u64,
    agree: u64,
}

#[derive(Default)]
struct Counts {
    agreement: Option<Agreement>,
    retry: Option<Instant>,
}

impl Default for Shadow {
    fn default() -> Shadow {
        Shadow { slots: Arc::new(Semaphore::new(IMAGES_CEILING)), counts: Mutex::default() }
    }
}

impl Shadow {
    /// Counts for this version from now on; what was counted of another one is forgotten.
    pub(crate) fn start(&self, version: Option<&str>) {
        let mut counts = self.counts();
        if counts.agreement.as_ref().map(|agreement| agreement.version.as_str()) == version {
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let new = |version: &str| Agreement { version: version.to_owned(), since, ..Agreement::default() };
        *counts = Counts { agreement: version.map(new), retry: None };
    }

    /// What was counted; none without a shadow.
    pub(crate) fn agreement(&self) -> Option<Agreement> {
        self.counts().agreement.clone()
    }

    /// Images that both were asked about, and those of which both say the same.
    pub(crate) fn totals(&self) -> (u64, u64) {
        self.counts().agreement.as_ref().map_or((0, 0), |own| (own.images, own.agree))
    }

    /// Its turn for one request; none while it has another one, which is counted.
    pub(crate) fn turn(&self, images: usize) -> Option<OwnedSemaphorePermit> {
        let turn = self.slots.clone().try_acquire_many_owned(IMAGES_CEILING as u32).ok();
        if turn.is_none() {
            self.left_out(images);
        }
        turn
    }

    /// Images that it is not asked about.
    pub(crate) fn left_out(&self, images: usize) {
        self.note(|own| own.left_out += images as u64);
    }

    /// Images that it could not answer.
    pub(crate) fn failed(&self, images: usize) {
        self.note(|own| own.failed += images as u64);
    }

    fn note(&self, change: impl FnOnce(&mut Agreement)) {
        if let Some(agreement) = &mut self.counts().agreement {
            change(agreement);
        }
    }

    /// Counts what it said of the images of a request.
    pub(crate) fn count(&self, version: &str, answered: &[String], said: impl Iterator<Item = String>) {
        self.note(|own| {
            // Another one may have become the shadow meanwhile.
            if own.version != version {
                return;
            }
            for (answered, said) in answered.iter().zip(said) {
                let agrees = u64::from(*answered == said);
                let class = own.classes.entry(answered.clone()).or_default();
                (class.images, class.agree) = (class.images + 1, class.agree + agrees);
                (own.images, own.agree) = (own.images + 1, own.agree + agrees);
            }
        });
    }

    /// Whether a load may be tried.
    pub(crate) fn may_load(&self) -> bool {
        self.counts().retry.is_none_or(|retry| Instant::now() >= retry)
    }

    /// Notes what came of a load: why there is none, if so.
    pub(crate) fn loaded(&self, outcome: Result<(), String>) {
        let mut counts = self.counts();
        counts.retry = outcome.is_err().then(|| Instant::now() + RETRY);
        if let Some(agreement) = &mut counts.agreement {
            agreement.problem = outcome.err();
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_counted_by_class_and_for_one_version() {
        let shadow = Shadow::default();
        assert_eq!((shadow.agreement(), shadow.totals()), (None, (0, 0)));
        shadow.start(Some("a"));
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        shadow.count("a", &words("cat cat dog"), words("cat dog dog").into_iter());
        // What another version said.
        shadow.count("b", &words("cat"), words("cat").into_iter());
        let counted = shadow.agreement().unwrap();
        assert_eq!((counted.images, counted.agree), (3, 2));
        assert_eq!(counted.classes["cat"], ClassAgreement { images: 2, agree: 1 });
        // One request at a time.
        let turn = shadow.turn(2).unwrap();
        assert!(shadow.turn(5).is_none());
        drop(turn);
        assert!(shadow.turn(1).is_some());
        assert_eq!(shadow.agreement().unwrap().left_out, 5);
        shadow.start(Some("a"));
        assert_eq!(shadow.totals(), (3, 2));
        shadow.start(Some("b"));
        assert_eq!(shadow.totals(), (0, 0));
    }
}
