//! What the store keeps in memory: the objects of every kind, the recent changes, and who owns whom.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use equivalent::{Comparable, Equivalent};
use imbl::OrdSet;
use jiff::Timestamp;

use super::event::{Change, Event};
use super::object::{Key, KindId, Object};
use super::ring::{Ring, RingLimits};

/// An object in the order of namespace and name. The set holds one pointer an object: names are not stored twice.
#[derive(Clone, Debug)]
pub(super) struct Entry(pub(super) Arc<Object>);

impl Entry {
    fn place(&self) -> (&str, &str) {
        (&self.0.namespace, &self.0.name)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

/// A namespace and a name to look an [`Entry`] up with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a>(pub(super) &'a str, pub(super) &'a str);

impl Equivalent<Entry> for Place<'_> {
    fn equivalent(&self, entry: &Entry) -> bool {
        (self.0, self.1) == entry.place()
    }
}
impl Comparable<Entry> for Place<'_> {
    fn compare(&self, entry: &Entry) -> Ordering {
        (self.0, self.1).cmp(&entry.place())
    }
}

/// The objects of one kind: a persistent B-tree, so that a copy is free and later writes do not change it.
pub(super) type Objects = OrdSet<Entry>;

/// The objects from `from` on, in order.
pub(super) fn range<'a>(
    objects: &'a Objects,
    from: Bound<Place<'_>>,
) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
    objects.range((from, Bound::<Place<'_>>::Unbounded)).map(|entry| &entry.0)
}

/// The full name of an object, in the strings that it already has.
pub(super) type Name = (KindId, Arc<str>, Arc<str>);

/// The name of an object of that kind.
fn name(kind: KindId, object: &Object) -> Name {
    (kind, Arc::clone(&object.namespace), Arc::clone(&object.name))
}

/// One kind.
#[derive(Debug)]
pub(super) struct KindState {
    pub(super) objects: Objects,
    pub(super) ring: Ring,
}

/// Everything in memory, under one lock, so that a revision and what was read with it belong together.
#[derive(Debug)]
pub(super) struct State {
    /// The last committed revision.
    pub(super) revision: u64,
    pub(super) kinds: Vec<KindState>,
    /// The owner's uid and the name of every object that has an owner.
    owners: BTreeSet<(Arc<str>, Name)>,
}

impl State {
    pub(super) fn new(revision: u64, compacted: u64, kinds: usize) -> Self {
        let kind = || KindState { objects: Objects::new(), ring: Ring::new(compacted) };
        Self { revision, kinds: (0..kinds).map(|_| kind()).collect(), owners: BTreeSet::new() }
    }

    /// The object of that name.
    pub(super) fn get(&self, kind: KindId, place: Place<'_>) -> Option<&Arc<Object>> {
        self.kinds.get(kind.0)?.objects.get(&place).map(|entry| &entry.0)
    }

    /// Puts in an object that was read from the disk.
    pub(super) fn load(&mut self, kind: KindId, object: Arc<Object>) {
        self.own(kind, &object);
        if let Some(state) = self.kinds.get_mut(kind.0) {
            state.objects.insert(Entry(object));
        }
    }

    /// Makes a committed change visible. What it pushes out of the ring is appended to `dropped`.
    pub(super) fn apply(
        &mut self,
        event: &Arc<Event>,
        limits: &RingLimits,
        now: Timestamp,
        dropped: &mut Vec<Arc<Event>>,
    ) {
        if let Some(previous) = &event.previous {
            self.disown(event.kind, previous);
        }
        if event.change != Change::Deleted {
            self.own(event.kind, &event.object);
        }
        self.revision = event.revision;
        let Some(kind) = self.kinds.get_mut(event.kind.0) else { return };
        let object = &event.object;
        match event.change {
            Change::Created | Change::Updated => {
                kind.objects.insert(Entry(Arc::clone(object)));
            }
            Change::Deleted => {
                kind.objects.remove(&Place(&object.namespace, &object.name));
            }
        }
        dropped.extend(kind.ring.push(Arc::clone(event), limits, now));
    }

    /// The objects of a kind as they were at `revision`, rebuilt by taking the later changes back. The caller has
    /// checked that the ring still knows them.
    pub(super) fn rewind(kind: &KindState, revision: u64) -> Objects {
        let mut objects = kind.objects.clone();
        for event in kind.ring.after(revision).rev() {
            match &event.previous {
                Some(previous) => {
                    objects.insert(Entry(Arc::clone(previous)));
                }
                None => {
                    objects.remove(&Place(&event.object.namespace, &event.object.name));
                }
            }
        }
        objects
    }

    fn own(&mut self, kind: KindId, object: &Object) {
        for owner in &object.meta.owners {
            self.owners.insert((Arc::clone(&owner.uid), name(kind, object)));
        }
    }

    fn disown(&mut self, kind: KindId, object: &Object) {
        for owner in &object.meta.owners {
            self.owners.remove(&(Arc::clone(&owner.uid), name(kind, object)));
        }
    }

    /// The objects that name `uid` as an owner.
    pub(super) fn dependents(&self, uid: &str) -> Vec<(Key, Arc<Object>)> {
        let empty: Arc<str> = "".into();
        let from = (Arc::<str>::from(uid), (KindId(0), Arc::clone(&empty), empty));
        self.owners
            .range(from..)
            .take_while(|(owner, ..)| **owner == *uid)
            .filter_map(|(_, (kind, namespace, name))| {
                let object = self.get(*kind, Place(namespace, name))?;
                Some((object.key(*kind), Arc::clone(object)))
            })
            .collect()
    }
}
