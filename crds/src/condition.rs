//! Conditions, as the Kubernetes API conventions describe them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition that every kind has.
pub const READY: &str = "Ready";

/// What a reconciler says about one aspect of an object; [`set`] turns it into a `Condition`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The condition's type, an adjective or a past participle: `Ready`, `Scheduled`.
    pub type_: &'static str,
    /// `Some(true)` is `True`, `Some(false)` is `False`, `None` is `Unknown`.
    pub status: Option<bool>,
    /// One CamelCase word that scripts may rely on.
    pub reason: &'static str,
    /// A sentence for a person.
    pub message: String,
}

impl Verdict {
    /// A verdict of a type with a reason and a message.
    pub fn new(type_: &'static str, status: Option<bool>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status, reason, message: message.into() }
    }
}

/// Brings `conditions` to what `verdicts` say. A transition time changes only with the status itself, and conditions
/// that no verdict names stay as they are. The result is ordered by type, so equal verdicts give equal conditions.
pub fn set(conditions: &[Condition], verdicts: &[Verdict], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let mut result = conditions.to_vec();
    for verdict in verdicts {
        let status = match verdict.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let before = result.iter().position(|condition| condition.type_ == verdict.type_);
        let since = before
            .map(|index| &result[index])
            .filter(|condition| condition.status == status)
            .map_or_else(|| whole_seconds(now), |condition| condition.last_transition_time.clone());
        let condition = Condition {
            type_: verdict.type_.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.to_owned(),
            message: verdict.message.clone(),
            observed_generation: generation,
            last_transition_time: since,
        };
        match before {
            Some(index) => result[index] = condition,
            None => result.push(condition),
        }
    }
    result.sort_by(|left, right| left.type_.cmp(&right.type_));
    result
}

/// Whether a condition of this type is `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Kubernetes writes times in whole seconds; keeping more would make an object differ from its stored self.
pub fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).expect("a timestamp's whole seconds are a timestamp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let first = set(&[], &[Verdict::new(READY, Some(false), "Waiting", "for a node")], Some(1), at(10));
        let second = set(&first, &[Verdict::new(READY, Some(false), "Pulling", "the image")], Some(2), at(20));
        assert_eq!(second[0].last_transition_time.0, at(10));
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("Pulling", Some(2)));
        let third = set(&second, &[Verdict::new(READY, Some(true), "Running", "")], Some(2), at(30));
        assert_eq!(third[0].last_transition_time.0, at(30));
    }

    #[test]
    fn conditions_that_no_verdict_names_stay() {
        let first = set(&[], &[Verdict::new("Scheduled", Some(true), "Placed", "on a")], Some(1), at(10));
        let second = set(&first, &[Verdict::new(READY, None, "NodeSilent", "")], Some(1), at(20));
        assert_eq!(second.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), [READY, "Scheduled"]);
    }
}
