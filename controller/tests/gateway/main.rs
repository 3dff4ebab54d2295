//! The gateway: its pure parts, and the whole of it beside Berth's own API server in the same process, with agents that
//! speak the protocol over real sockets.

mod agent;
mod assign;
mod connect;
mod join;
mod link;
mod platform;
mod web;
