//! The controller against Berth's own API server in the same process, with an agent that only pretends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

mod agent;
mod application;
mod platform;
