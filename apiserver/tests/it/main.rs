//! The API server from outside: raw HTTP, kube-rs in the same process, and a real `kubectl` over TLS.

mod kubectl;
mod objects;
mod world;
