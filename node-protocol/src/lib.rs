//! What the gateway and a node's agent say to each other. Types only.
//!
//! Down goes the *assignment*: all that a node should run, as items with a revision. Up comes what the agent
//! *observes*. Frames are JSON text, one [`Down`] or [`Up`] each. Unknown fields are ignored; an unknown message is
//! answered with [`Up::Unknown`] or [`Down::Unknown`] and ends nothing, so that either side may be the older one.

#![warn(missing_docs)]

mod assignment;
mod observation;
mod register;
mod stream;

pub use assignment::{
    Assignment, AssignmentUpdate, BuildArgument, BuildTask, EnvValue, GitAccess, HealthProbe, ImageTask, InstanceTask,
    Item, ItemKey, RouteTask, RunState, RuntimeChoice,
};
pub use observation::{
    BuildObservation, Heartbeat, InstanceObservation, NodeResources, Observation, PartState, RouteObservation,
    UsageSample,
};
pub use register::{Claims, JoinToken, Registration, RegistrationAnswer, TOKEN_AUDIENCE};
pub use stream::{
    CLOSED, END, ERRORS, ExecWanted, INPUT, LogWanted, OUTPUT, OpenStream, SIZE, STREAM_DATA_BYTES_MAX,
    STREAM_FRAME_BYTES_MAX, STREAM_PING_SECONDS, StreamEnd, StreamPurpose, TerminalSize,
};

use serde::{Deserialize, Serialize};

/// The version of this protocol that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// The largest frame either side accepts. An assignment of 1,000 instances is about 2 MiB.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// What the items of one update take at most; larger ones go in pieces. An item that is larger is not sent at all.
pub const ITEM_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;
/// Time between two heartbeats.
pub const HEARTBEAT_SECONDS: u64 = 30;
/// Without a heartbeat for this long a node counts as offline: three missed ones and the time of a reconnect.
pub const OFFLINE_SECONDS: i64 = 90;

/// What the gateway says to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Down {
    /// What the node should run from now on.
    Assignment(AssignmentUpdate),
    /// Up to where a build's log is safely kept: the agent may forget what stands before.
    #[serde(rename_all = "camelCase")]
    LogKept {
        /// Uid of the Build.
        build: String,
        /// Number of bytes.
        bytes: u64,
    },
    /// Open a WebSocket for a stream.
    OpenStream(OpenStream),
    /// Tell everything that is observed anew: what was told before may have been overtaken.
    Observe,
    /// Sent instead of an answer to a message that this side does not know.
    #[serde(rename_all = "camelCase")]
    Unknown {
        /// The message's type, or what was wrong with it.
        message: String,
    },
}

/// What an agent says to the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Up {
    /// The first message of a connection: who speaks and what it already has.
    Hello(Hello),
    /// The agent has accepted the assignment of this revision and keeps it on disk.
    #[serde(rename_all = "camelCase")]
    Applied {
        /// The revision.
        revision: u64,
    },
    /// What the agent sees: everything (`full`), or what changed.
    Observed(Observation),
    /// The node is alive; how it is.
    Heartbeat(Heartbeat),
    /// A piece of a build's log, from a byte on. Sent again until it is kept.
    #[serde(rename_all = "camelCase")]
    BuildLog {
        /// Uid of the Build.
        build: String,
        /// Number of bytes that stand before this piece.
        offset: u64,
        /// The text.
        text: String,
    },
    /// Sent instead of an answer to a message that this side does not know.
    #[serde(rename_all = "camelCase")]
    Unknown {
        /// The message's type, or what was wrong with it.
        message: String,
    },
}

/// The first message of a connection, and the query of a poll.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The protocol's version.
    pub protocol: u32,
    /// The agent's version.
    pub agent_version: String,
    /// The revision of the assignment that the agent has, if any.
    #[serde(default)]
    pub revision: Option<u64>,
    /// [`Assignment::digest`] of what it has: equal digests need no list.
    #[serde(default)]
    pub digest: Option<String>,
}

/// What an agent without a WebSocket posts: the same messages, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    /// What would have come up the WebSocket.
    #[serde(default)]
    pub messages: Vec<Up>,
}

/// What it gets back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PollAnswer {
    /// What would have come down the WebSocket.
    #[serde(default)]
    pub messages: Vec<Down>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_fields_are_ignored_and_older_ones_may_be_missing() {
        let text = r#"{"type":"hello","protocol":2,"agentVersion":"9.9.9","mood":"good"}"#;
        let Up::Hello(hello) = serde_json::from_str(text).unwrap() else { panic!("not a hello") };
        assert_eq!((hello.protocol, hello.revision), (2, None));
        assert!(serde_json::from_str::<Down>(r#"{"type":"dance"}"#).is_err());
    }
}
