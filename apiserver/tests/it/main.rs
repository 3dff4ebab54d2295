//! The API server from outside: raw HTTP, kube-rs in the same process, and a real `kubectl` over TLS.

mod collection;
mod documents;
mod kube_rs;
mod kubectl;
mod lists;
mod objects;
mod watches;
mod world;
