//! The controller against Berth's own API server in the same process, with an agent that only pretends.

mod agent;
mod application;
mod platform;
