//! Server-side apply: who owns which field, and what an object becomes when somebody applies a configuration. Pure.
//!
//! The model is that of Kubernetes (KEP-555 and `sigs.k8s.io/structured-merge-diff`). An object's `managedFields` hold,
//! for each writer, the set of fields it has set. Applying a configuration merges it into the object by the kind's
//! types, removes what the same manager applied before and applies no longer, and refuses to change what others own
//! unless forced. Every other write moves the ownership of what it changes.
//!
//! - [`Type`] is a kind's schema as merging sees it; on it stand `fields`, `compare`, `merge` and `remove`.
//! - [`FieldSet`] is a set of paths, with its algebra and its form on the wire.
//! - [`Entry`] is one line of `managedFields`.
//! - [`update`] and [`apply`] are what a write does to an object's entries.

mod client_side;
mod compare;
mod configuration;
mod conflict;
mod element;
mod entry;
mod fields;
mod merge;
mod remove;
mod set;
#[cfg(test)]
mod tests;
mod tracking;
mod types;
mod wire;

pub use compare::Comparison;
pub use configuration::{Applied, Refusal, apply};
pub use conflict::{Conflict, Conflicts};
pub use element::{Element, Path};
pub use entry::{Entry, Operation, differ, entries, take};
pub use set::FieldSet;
pub use tracking::{Reach, Writer, update};
pub use types::Type;
