//! When a job that fails again and again is given up.

use serde::{Deserialize, Serialize};

/// Failures of one kind at one point after which a job is given up.
const SAME: usize = 3;
/// Failures of any kind at one point after which it is.
const ANY: usize = 8;

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FailureKind")]
pub(crate) enum Kind {
    /// The job said why it cannot be done.
    Failed,
    /// It needed more memory than it may take.
    OutOfMemory,
    /// A signal ended its process.
    Killed,
    /// It showed no progress.
    Stuck,
    /// Its process ended without a result.
    Exited,
    /// Its process could not be started.
    CannotStart,
    /// The service ended while the job ran.
    ServiceEnded,
}

/// Where training was. It goes on after the last finished epoch: the step of a failure says where to look, and that
/// nothing was won is seen by the epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "TrainingPoint")]
pub(crate) struct Point {
    /// Finished epochs.
    pub(crate) epochs: u32,
    /// The last step of the next one that was heard of.
    pub(crate) step: usize,
}

/// One failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    #[serde(rename = "place")]
    pub(crate) point: Point,
}

/// The failures of a job since it last finished an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub(crate) struct Failures(Vec<Failure>);

/// What becomes of a job after a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// It goes on from its last epoch.
    Again,
    /// It is over; why, for its record.
    GiveUp(String),
}

impl Failures {
    /// Takes up a failure.
    pub(crate) fn add(&mut self, kind: Kind, point: Point) -> NextStep {
        // An epoch was finished since: whatever failed then was overcome.
        self.0.retain(|failure| failure.point.epochs == point.epochs);
        self.0.push(Failure { kind, point });
        let same = self.0.iter().filter(|failure| failure.kind == kind).count();
        let Point { epochs, step } = point;
        match kind {
            // The same again would come of it.
            Kind::Failed => NextStep::GiveUp("it cannot be done".to_owned()),
            Kind::OutOfMemory => NextStep::GiveUp("it would run out of the same memory again".to_owned()),
            _ if same >= SAME => NextStep::GiveUp(format!(
                "{} {same} times after {epochs} finished epochs, the last time at step {step}: given up",
                kind.word()
            )),
            _ if self.0.len() >= ANY => NextStep::GiveUp(format!(
                "failed {} times after {epochs} finished epochs, the last time at step {step}: given up",
                self.0.len()
            )),
            _ => NextStep::Again,
        }
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::OutOfMemory => "ran out of memory",
            Kind::Killed => "was killed",
            Kind::Stuck => "was stuck",
            Kind::Exited => "ended without a result",
            Kind::CannotStart => "could not be started",
            Kind::ServiceEnded => "was under way when the service ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 5] = [Kind::Killed, Kind::Stuck, Kind::Exited, Kind::CannotStart, Kind::ServiceEnded];

    fn at(epochs: u32, step: usize) -> Point {
        Point { epochs, step }
    }

    #[test]
    fn three_of_a_kind_without_an_epoch_between_end_a_job() {
        for kind in KINDS {
            let mut failures = Failures::default();
            // The steps that were heard of last differ by chance.
            assert_eq!(failures.add(kind, at(2, 40)), NextStep::Again);
            assert_eq!(failures.add(kind, at(2, 41)), NextStep::Again);
            let NextStep::GiveUp(reason) = failures.add(kind, at(2, 39)) else { panic!("{kind:?} goes on") };
            assert!(reason.contains("3 times after 2 finished epochs"), "{reason}");
        }
    }

    #[test]
    fn a_job_that_finishes_epochs_may_fail_often() {
        let mut failures = Failures::default();
        for epochs in 0..100 {
            assert_eq!(failures.add(Kind::Killed, at(epochs, 3)), NextStep::Again);
            assert_eq!(failures.add(Kind::Killed, at(epochs, 3)), NextStep::Again);
            assert_eq!(failures.0.len(), 2);
        }
    }

    #[test]
    fn failures_of_many_kinds_at_one_point_end_it_too() {
        let mut failures = Failures::default();
        let steps: Vec<NextStep> =
            KINDS.iter().cycle().take(9).map(|&kind| failures.add(kind, at(0, 1))).collect();
        let given_up = steps.iter().position(|step| *step != NextStep::Again);
        assert_eq!(given_up, Some(ANY - 1));
    }

    #[test]
    fn failures_that_repeat_for_certain_end_a_job_at_once() {
        for kind in [Kind::OutOfMemory, Kind::Failed] {
            assert!(matches!(Failures::default().add(kind, at(0, 0)), NextStep::GiveUp(_)), "{kind:?}");
        }
    }

    #[test]
    fn it_is_stored_in_a_record() {
        let mut failures = Failures::default();
        failures.add(Kind::Stuck, at(1, 7));
        let text = serde_json::to_string(&failures).unwrap();
        assert_eq!(text, r#"[{"kind":"stuck","place":{"epochs":1,"step":7}}]"#);
        assert_eq!(serde_json::from_str::<Failures>(&text).unwrap(), failures);
    }
}
