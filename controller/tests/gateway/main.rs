//! The gateway: its pure parts, and the whole of it beside Berth's own API server in the same process, with agents that
//! speak the protocol over real sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in tests a panic is how a wrong answer is reported")]

mod agent;
mod assign;
mod connect;
mod join;
mod link;
mod platform;
mod web;
