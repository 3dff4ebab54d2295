//! A Kubernetes-compatible API server for whatever kinds are registered with it.
//!
//! It knows resources and none of the kinds by name: see [`kind::Kind`].

pub mod kind;
