//! Streams: a program's log, another program beside it, a connection to one of its ports.
//!
//! The gateway asks for one with [`OpenStream`]; the agent then opens a WebSocket for this stream alone, at
//! `…/nodes/{uid}/streams/{stream}`, so that whoever is slow slows down nothing else: TCP holds the other side back.
//! Its messages are binary *frames*: the first byte is a channel, the rest its data. The numbers of the channels are
//! Kubernetes' (`v5.channel.k8s.io`), so that frames pass from the client to the node as they are.
//!
//! The agent's first frame says that the stream is open (an empty one of [`OUTPUT`]) or why not ([`END`]). Its last is
//! always [`END`]. Closing the WebSocket ends the stream.

use serde::{Deserialize, Serialize};

/// To the program: its input.
pub const INPUT: u8 = 0;
/// From the program: its output.
pub const OUTPUT: u8 = 1;
/// From the program: its error output.
pub const ERRORS: u8 = 2;
/// From the agent: the end of the stream, a [`StreamEnd`] as JSON.
pub const END: u8 = 3;
/// To the program: the size of its terminal, a [`TerminalSize`] as JSON.
pub const SIZE: u8 = 4;
/// There is no more on the channel whose number follows.
pub const CLOSED: u8 = 255;

/// The longest data of a frame.
pub const STREAM_DATA_BYTES_MAX: usize = 32 << 10;
/// The largest message of a stream that either side accepts.
pub const STREAM_FRAME_BYTES_MAX: usize = 64 << 10;
/// How often each side of a stream shows that it is there; after three of these without a word the other one is gone.
pub const STREAM_PING_SECONDS: u64 = 20;

/// Asks for a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenStream {
    /// The number by which the agent names it when it opens the WebSocket.
    pub stream: u64,
    /// Uid of the Instance.
    pub instance: String,
    /// What is wanted.
    pub purpose: StreamPurpose,
}

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StreamPurpose {
    /// What the program has written.
    Log(LogWanted),
    /// To run another program in its container.
    Exec(ExecWanted),
    /// A TCP connection to the container's own address.
    Forward {
        /// The port.
        port: u16,
    },
}

/// Which part of a log is wanted.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the protocol's own")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogWanted {
    /// Whether it goes on with what is written from now on.
    #[serde(default)]
    pub follow: bool,
    /// How many of the last lines it begins with; all, if not given.
    #[serde(default)]
    pub tail_lines: Option<u32>,
    /// Only what was written in the last so many seconds.
    #[serde(default)]
    pub since_seconds: Option<u64>,
    /// Only what was written since, RFC 3339.
    #[serde(default)]
    pub since: Option<String>,
    /// Whether each line begins with its time.
    #[serde(default)]
    pub timestamps: bool,
    /// What was written before the program was last started.
    #[serde(default)]
    pub previous: bool,
    /// Whether standard output is wanted.
    #[serde(default = "yes")]
    pub stdout: bool,
    /// Whether standard error is wanted.
    #[serde(default = "yes")]
    pub stderr: bool,
}

fn yes() -> bool {
    true
}

impl Default for LogWanted {
    /// All of it, and not what comes.
    fn default() -> Self {
        Self {
            follow: false,
            tail_lines: None,
            since_seconds: None,
            since: None,
            timestamps: false,
            previous: false,
            stdout: true,
            stderr: true,
        }
    }
}

/// A program to run in a container, as the container's own user and with no more rights than its own program.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the protocol's own")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecWanted {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it gets input.
    #[serde(default)]
    pub stdin: bool,
    /// Whether its standard output is wanted.
    #[serde(default)]
    pub stdout: bool,
    /// Whether its standard error is wanted.
    #[serde(default)]
    pub stderr: bool,
    /// Whether it gets a terminal.
    #[serde(default)]
    pub tty: bool,
}

/// How a stream ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamEnd {
    /// The exit code of a program that was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Why it ended, if not because there is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl StreamEnd {
    /// An end for a reason.
    pub fn because(error: impl Into<String>) -> Self {
        Self { exit_code: None, error: Some(error.into()) }
    }

    /// The frame that says so.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![END];
        // Two fields of plain data serialise.
        frame.extend(serde_json::to_vec(self).unwrap_or_default());
        frame
    }
}

/// Columns and lines of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    #[serde(rename = "Width")]
    pub width: u16,
    /// Lines.
    #[serde(rename = "Height")]
    pub height: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_asked_for_with_few_words() {
        let text = r#"{"stream":1,"instance":"u","purpose":{"log":{"follow":true}}}"#;
        let open: OpenStream = serde_json::from_str(text).unwrap();
        assert_eq!(open.purpose, StreamPurpose::Log(LogWanted { follow: true, ..LogWanted::default() }));
    }

    #[test]
    fn sizes_are_written_as_kubernetes_writes_them() {
        let size: TerminalSize = serde_json::from_str(r#"{"Width":120,"Height":40}"#).unwrap();
        assert_eq!(size, TerminalSize { width: 120, height: 40 });
    }
}
