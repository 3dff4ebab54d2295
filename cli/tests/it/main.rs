//! `berth` as a program: what it prints, how it exits, and that a server keeps what it acknowledged.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod accounts;
mod backup;
mod berth;
mod commands;
mod docs;
mod help;
mod lifecycle;
mod limits;
mod oidc;
mod replicas;
mod sealing;
mod services;
mod tenants;
