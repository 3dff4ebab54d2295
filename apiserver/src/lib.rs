//! A Kubernetes-compatible API server for whatever kinds are registered with it.
//!
//! It knows resources and none of the kinds by name: see [`kind::Kind`]. Put a [`Server`] together from a
//! [`store::Store`] and [`Kinds`]; serve its router with [`serve`], or give it to a client in the same process.

#![warn(missing_docs)]

pub mod accounts;
pub mod admission;
pub mod apply;
mod apply_patch;
mod audit;
pub mod auth;
pub mod clock;
pub mod core_kinds;
mod crd;
pub mod decode;
pub mod definitions;
mod delete;
pub mod discovery;
mod documents;
mod entrance;
pub mod error;
pub mod file;
mod freshness;
mod gc;
mod guard;
mod health;
mod jsonpath;
pub mod kind;
pub mod kinds;
mod list;
mod metrics;
mod namespaces;
pub mod negotiation;
mod objects;
pub mod oidc;
pub mod openapi;
mod ownership;
pub mod patch;
pub mod path;
pub mod pki;
pub mod protobuf;
pub mod query;
pub mod quota;
mod respond;
mod reviews;
mod router;
mod scale;
pub mod schema;
mod selection;
pub mod selector;
mod serve;
mod server;
mod service_accounts;
pub mod spdy;
pub mod store;
pub mod streams;
pub mod table;
pub mod task;
mod watch;
mod write;

pub use auth::Identity;
pub use guard::Limits;
pub use kinds::Kinds;
pub use namespaces::ensure as ensure_namespace;
pub use serve::{Patience, Peer, serve, serve_with};
pub use server::{Builder, Error, Server};
