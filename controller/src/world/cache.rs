//! All objects of one kind in memory, as the API server last told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::kind::Watched;

/// Names an object within its kind. Ordered by namespace, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of an object in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object of a cluster-scoped kind.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self::new("", name)
    }

    /// The key of an object.
    pub fn of<K: Watched>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }

    /// The namespace, if the kind has one.
    pub fn namespace(&self) -> Option<&str> {
        Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace() {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// All objects of one kind. Reading never waits for the API server.
pub struct Cache<K> {
    inner: RwLock<Inner<K>>,
}

struct Inner<K> {
    objects: BTreeMap<Key, Arc<K>>,
    by_application: BTreeMap<Key, BTreeSet<Key>>,
    by_node: BTreeMap<String, BTreeSet<Key>>,
    filled: bool,
    /// The highest revision that the watch has delivered.
    seen: u64,
    /// How often the kind was listed anew.
    epoch: u64,
}

/// Taken before a write, given back with its answer; see [`Cache::absorb`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(u64);

/// What a change replaced and put in its place.
pub(crate) struct Change<K> {
    pub(crate) before: Option<Arc<K>>,
    pub(crate) after: Option<Arc<K>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            inner: RwLock::new(Inner {
                objects: BTreeMap::new(),
                by_application: BTreeMap::new(),
                by_node: BTreeMap::new(),
                filled: false,
                seen: 0,
                epoch: 0,
            }),
        }
    }
}

impl<K: Watched> Cache<K> {
    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(key).map(Arc::clone)
    }

    /// All objects, by key.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().map(Arc::clone).collect()
    }

    /// The objects of one namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let inner = self.read();
        let from = Key::new(namespace, "");
        inner
            .objects
            .range(from..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// What belongs to an Application, by name.
    pub fn of_application(&self, application: &Key) -> Vec<Arc<K>> {
        let inner = self.read();
        let keys = inner.by_application.get(application).into_iter().flatten();
        keys.filter_map(|key| inner.objects.get(key)).map(Arc::clone).collect()
    }

    /// What a Node was given, by namespace and name.
    pub fn on_node(&self, node: &str) -> Vec<Arc<K>> {
        let inner = self.read();
        let keys = inner.by_node.get(node).into_iter().flatten();
        keys.filter_map(|key| inner.objects.get(key)).map(Arc::clone).collect()
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<Key> {
        self.read().objects.keys().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the first list has arrived.
    pub fn is_filled(&self) -> bool {
        self.read().filled
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.read().epoch)
    }

    /// Takes in what the watch says of one object.
    pub(crate) fn apply(&self, object: K) -> Change<K> {
        let mut inner = self.write();
        inner.seen = inner.seen.max(revision(&object));
        // The answer to a write of our own may have come before the watch's word of an older state.
        let key = Key::of(&object);
        if let Some(present) = inner.objects.get(&key)
            && revision(&**present) > revision(&object)
        {
            let present = Arc::clone(present);
            return Change { before: Some(Arc::clone(&present)), after: Some(present) };
        }
        inner.put(object)
    }

    /// Takes in that an object is gone.
    pub(crate) fn remove(&self, object: &K) -> Change<K> {
        let mut inner = self.write();
        inner.seen = inner.seen.max(revision(object));
        let key = Key::of(object);
        // Another of its name may have been made since, of which the answer has come before the watch's word.
        if let Some(present) = inner.objects.get(&key)
            && revision(&**present) > revision(object)
        {
            let present = Arc::clone(present);
            return Change { before: Some(Arc::clone(&present)), after: Some(present) };
        }
        Change { before: inner.take(&key), after: None }
    }

    /// Replaces everything by a new list. Returns what is different now.
    pub(crate) fn replace(&self, list: Vec<K>) -> Vec<Change<K>> {
        let mut inner = self.write();
        inner.epoch += 1;
        inner.filled = true;
        let listed: BTreeSet<Key> = list.iter().map(Key::of).collect();
        let gone: Vec<Key> = inner.objects.keys().filter(|key| !listed.contains(key)).cloned().collect();
        let mut changes: Vec<Change<K>> =
            gone.iter().map(|key| Change { before: inner.take(key), after: None }).collect();
        for object in list {
            inner.seen = inner.seen.max(revision(&object));
            changes.push(inner.put(object));
        }
        changes
    }

    /// Takes in the answer to a write of our own, so that what follows does not see an older state.
    ///
    /// The watch tells of changes in order: what it has passed it has told, and an answer older than that could bring
    /// back an object that was deleted since. After a new list nothing is known about the order, so an answer from
    /// before it is not taken either.
    pub(crate) fn absorb(&self, object: K, epoch: Epoch) -> Option<Change<K>> {
        let mut inner = self.write();
        let revision = revision(&object);
        let late = revision == 0 || revision <= inner.seen || epoch.0 != inner.epoch || !inner.filled;
        let older = inner.objects.get(&Key::of(&object)).is_some_and(|present| self::revision(&**present) >= revision);
        if late || older {
            return None;
        }
        let gone =
            object.meta().deletion_timestamp.is_some() && object.meta().finalizers.as_ref().is_none_or(Vec::is_empty);
        Some(if gone { Change { before: inner.take(&Key::of(&object)), after: None } } else { inner.put(object) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<K>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<K>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Watched> Inner<K> {
    fn put(&mut self, object: K) -> Change<K> {
        let key = Key::of(&object);
        let before = self.take(&key);
        if let Some(application) = object.application() {
            let of = Key::new(key.namespace.clone(), application);
            self.by_application.entry(of).or_default().insert(key.clone());
        }
        if let Some(node) = object.node() {
            self.by_node.entry(node.to_owned()).or_default().insert(key.clone());
        }
        let after = Arc::new(object);
        self.objects.insert(key, Arc::clone(&after));
        Change { before, after: Some(after) }
    }

    fn take(&mut self, key: &Key) -> Option<Arc<K>> {
        let object = self.objects.remove(key)?;
        if let Some(application) = object.application() {
            let of = Key::new(key.namespace.clone(), application);
            drop_from(&mut self.by_application, &of, key);
        }
        if let Some(node) = object.node() {
            drop_from(&mut self.by_node, &node.to_owned(), key);
        }
        Some(object)
    }
}

fn drop_from<I: Ord>(index: &mut BTreeMap<I, BTreeSet<Key>>, of: &I, key: &Key) {
    if let Some(keys) = index.get_mut(of) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(of);
        }
    }
}

/// An object's revision as a number; 0 when it has none that can be compared. Kubernetes 1.35 made the order of
/// resource versions part of the API, and Berth's own server has always counted.
fn revision<K: Watched>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Namespace;

    use super::*;

    fn namespace(name: &str, revision: u64) -> Namespace {
        let mut object = Namespace::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.resource_version = Some(revision.to_string());
        object
    }

    #[test]
    fn the_answer_to_a_write_counts_until_the_watch_has_passed_it() {
        let cache = Cache::<Namespace>::default();
        cache.replace(vec![namespace("a", 5)]);
        let epoch = cache.epoch();
        assert!(cache.absorb(namespace("a", 7), epoch).is_some());
        cache.apply(namespace("a", 6));
        assert_eq!(revision(&*cache.get(&Key::cluster("a")).unwrap()), 7, "the watch is behind");
        cache.remove(&namespace("a", 9));
        assert!(cache.absorb(namespace("a", 8), epoch).is_none(), "it was deleted at 9");
        assert!(cache.is_empty());
        assert!(cache.absorb(namespace("a", 12), epoch).is_some());
        cache.remove(&namespace("a", 11));
        assert!(!cache.is_empty(), "it was another of that name that went at 11");
    }

    #[test]
    fn an_answer_from_before_a_new_list_is_not_taken() {
        let cache = Cache::<Namespace>::default();
        cache.replace(vec![namespace("a", 5), namespace("b", 6)]);
        let epoch = cache.epoch();
        let changes = cache.replace(vec![namespace("a", 5)]);
        assert_eq!(changes.iter().filter(|change| change.after.is_none()).count(), 1);
        assert!(cache.absorb(namespace("b", 9), epoch).is_none());
    }
}
