//! The API server from outside: raw HTTP, kube-rs in the same process, and a real `kubectl` over TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod access;
mod accounts;
mod apply;
mod audit;
mod browsers;
mod collection;
mod documents;
mod guard;
mod helm;
mod kube_rs;
mod kubectl;
mod kubectl_access;
mod kubectl_verbs;
mod lists;
mod objects;
mod properties;
mod quotas;
mod server_side;
mod sockets;
mod streams;
mod watches;
mod world;
