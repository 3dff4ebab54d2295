//! What the agent asks of a machine: to run containers, to build images, to route requests.
//!
//! `docker.rs` and `nginx/` do it for real, `fake.rs` in memory. Nothing here decides anything: that is `plan.rs`.

mod builder;
mod containers;
mod image;
mod network;
mod router;
mod workshop;

pub use builder::{Builder, LogSink};
pub use containers::{
    Container, ContainerSpec, ContainerState, Containers, Engine, EngineEvent, EventStream, ExecSpec, LogQuery, Output,
    OutputStream, Process,
};
pub use image::Image;
pub use network::{BRIDGE_PREFIX, Network, NetworkSpec, OUTSIDE_BRIDGE_PREFIX};
pub use router::{Host, Live, NotAHost, Router, RouterError, Routes, Site};
pub use workshop::{HelperExit, HelperNetwork, HelperSpec, ImageBuild, VolumeMount, Workshop};

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;

/// Bytes that arrive bit by bit.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

/// Why the container engine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or something still uses it.
    #[error("{0}")]
    Conflict(String),
    /// The engine does not answer.
    #[error("the container engine does not answer: {0}")]
    Unreachable(String),
    /// The engine answered, and refused.
    #[error("{0}")]
    Refused(String),
    /// It was cancelled from our side.
    #[error("cancelled")]
    Cancelled,
}
