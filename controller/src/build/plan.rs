//! What is done about a build: it is given a node once, and ended if that node cannot end it any more.

use crds::build::BuildStatus;
use crds::{Build, CANCEL_ANNOTATION};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Choice, Observed};
use crate::node::Side;
use crate::step::{Note, Step, Target, is_deleted};

/// What the node has beyond a build's own time to end it and to say so.
const GRACE: SignedDuration = SignedDuration::from_mins(2);
/// A node that is silent for so long will not begin with a build.
const SILENT_MAX: SignedDuration = SignedDuration::from_mins(5);

pub(super) fn plan(build: &Build, observed: &Observed) -> Vec<Step> {
    let status = build.status.clone().unwrap_or_default();
    if status.phase.is_final() || is_deleted(build) {
        return Vec::new();
    }
    if is_cancelled(build) {
        // Where a node has it, the node ends it and says so.
        let nobody = !matches!(observed.choice, Choice::Given(_, Side::Heard | Side::Silent(_)));
        if nobody || overdue(build, &status, observed).is_some() {
            return vec![end(build, observed.now, "Cancelled", "Cancelled", "it was cancelled", "deploy again")];
        }
        return Vec::new();
    }
    match &observed.choice {
        Choice::None(_) => Vec::new(),
        Choice::Best(node) => vec![
            Step::PatchStatus { of: Target::exactly(build), patch: json!({ "node": node }) },
            Note::normal("BuildScheduled", format!("to be built on {node}")),
        ],
        Choice::Given(..) => overdue(build, &status, observed)
            .map(|(reason, message)| end(build, observed.now, "Failed", reason, &message, "deploy again"))
            .into_iter()
            .collect(),
    }
}

pub(super) fn is_cancelled(build: &Build) -> bool {
    build
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.get(CANCEL_ANNOTATION).is_some_and(|value| value == "true"))
}

/// Why its node will not bring it to an end, if so.
fn overdue(build: &Build, status: &BuildStatus, observed: &Observed) -> Option<(&'static str, String)> {
    let Choice::Given(node, side) = &observed.choice else { return None };
    let begun: Option<Timestamp> = status.started_at.as_deref().and_then(|time| time.parse().ok());
    let timeout = SignedDuration::try_from(build.spec.options.timeout.get()).unwrap_or(SignedDuration::ZERO);
    let late = begun.is_some_and(|begun| observed.now.duration_since(begun) > timeout + GRACE);
    match side {
        Side::Gone => Some(("NodeLost", format!("the node {node}, which built it, is no more"))),
        Side::Silent(since) if late || (begun.is_none() && observed.now.duration_since(*since) > SILENT_MAX) => {
            Some(("NodeLost", format!("nothing was heard since {since} of the node {node}, which built it")))
        }
        Side::Heard if late => Some(("TimedOut", format!("it was not finished after {}", build.spec.options.timeout))),
        Side::Silent(_) | Side::Heard => None,
    }
}

fn end(build: &Build, now: Timestamp, phase: &str, reason: &str, message: &str, hint: &str) -> Step {
    let now = crds::condition::whole_seconds(now).0.to_string();
    Step::PatchStatus {
        of: Target::exactly(build),
        patch: json!({
            "phase": phase,
            "finishedAt": now,
            "failure": { "reason": reason, "message": message, "hint": hint },
        }),
    }
}
