//! All objects of a kind as they were at one revision.

use std::ops::Bound;
use std::sync::Arc;

use super::cache::{self, Objects, Place};
use super::object::Object;

/// A consistent view of one namespace of a kind, or of all of them. Taking and cloning it is free whatever its size,
/// and later writes do not show in it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The store-wide revision at which it was taken: the `resourceVersion` of a list.
    pub revision: u64,
    pub(super) objects: Objects,
    /// `None` is all of them.
    pub(super) namespace: Option<Arc<str>>,
}

impl Snapshot {
    /// All objects, in the order of namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        let first = Place(self.namespace.as_deref().unwrap_or(""), "");
        self.within(Bound::Included(first))
    }

    /// The objects after that one, in the same order: the next page of a list.
    pub fn range_after<'a>(&'a self, namespace: &str, name: &str) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        // A position before the snapshot's own namespace (or from another list) must not show other namespaces.
        let first = self.namespace.as_deref().unwrap_or("");
        let from =
            if namespace < first { Bound::Included(Place(first, "")) } else { Bound::Excluded(Place(namespace, name)) };
        self.within(from)
    }

    fn within<'a>(&'a self, from: Bound<Place<'_>>) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let namespace = self.namespace.as_deref();
        cache::range(&self.objects, from)
            .take_while(move |object| namespace.is_none_or(|namespace| *object.namespace == *namespace))
    }

    /// The object of that name, if this view shows it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        if self.namespace.as_deref().is_some_and(|own| own != namespace) {
            return None;
        }
        self.objects.get(&Place(namespace, name)).map(|entry| &entry.0)
    }

    /// How many objects there are. Counts them unless the snapshot spans all namespaces.
    pub fn len(&self) -> usize {
        if self.namespace.is_none() { self.objects.len() } else { self.iter().count() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}
