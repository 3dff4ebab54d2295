//! A Kubernetes-compatible API server for whatever kinds are registered with it.
//!
//! It knows resources and none of the kinds by name: see [`kind::Kind`].

pub mod clock;
mod jsonpath;
pub mod kind;
pub mod store;
pub mod task;
pub mod core_kinds;
mod crd;
pub mod decode;
pub mod discovery;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod schema;
pub mod selector;
pub mod table;
