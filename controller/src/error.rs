//! What can go wrong while a plan is carried out, and when to try again.

use std::time::Duration;

/// Why an object could not be brought to what is wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The object was changed since the plan was made.
    #[error("{0} has changed since it was looked at")]
    Changed(String),
    /// The API server refused a step.
    #[error("the API server refused to {deed}")]
    Refused {
        /// What was tried.
        deed: String,
        /// Its answer.
        #[source]
        answer: kube::Error,
    },
    /// A plan panicked.
    #[error("the plan panicked: {0}")]
    Panicked(String),
}

/// A changed object's new state arrives within milliseconds.
const CHANGED: Duration = Duration::from_millis(5);
/// The first pause after a refusal.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest: a person who repaired something should not wait longer.
const PAUSE_MAX: Duration = Duration::from_mins(1);

impl Error {
    /// When to try again after so many failures in a row, the first being 1.
    pub(crate) fn retry(&self, failures: u32) -> Duration {
        let first = match self {
            Self::Changed(_) => CHANGED,
            Self::Refused { .. } | Self::Panicked(_) => PAUSE,
        };
        first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX)
    }

    /// A label for metrics and logs.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Changed(_) => "changed",
            Self::Refused { .. } => "refused",
            Self::Panicked(_) => "panicked",
        }
    }

    /// Whether somebody should hear of it: a changed object is everyday life.
    pub(crate) fn is_worth_telling(&self) -> bool {
        !matches!(self, Self::Changed(_))
    }
}
