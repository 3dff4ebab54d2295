//! Sets of paths.

use std::collections::BTreeMap;

use super::element::{Element, Path};

/// A set of paths, as a tree: a node stands for the path that leads to it, and may be in the set itself, have nodes
/// below it, or both. No node without either is kept, so that equal sets are equal trees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the path to this node is in the set.
    pub(super) here: bool,
    pub(super) below: BTreeMap<Element, FieldSet>,
}

impl FieldSet {
    /// The set of nothing but the place itself.
    pub(super) fn leaf() -> Self {
        Self { here: true, below: BTreeMap::new() }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        !self.here && self.below.is_empty()
    }

    /// How many paths are in the set.
    pub fn len(&self) -> usize {
        usize::from(self.here) + self.below.values().map(Self::len).sum::<usize>()
    }

    /// Adds a path.
    pub fn insert(&mut self, path: impl IntoIterator<Item = Element>) {
        let mut node = self;
        for element in path {
            node = node.below.entry(element).or_default();
        }
        node.here = true;
    }

    /// Whether a path is in the set.
    pub fn contains(&self, path: &[Element]) -> bool {
        match path.split_first() {
            None => self.here,
            Some((first, rest)) => self.below.get(first).is_some_and(|node| node.contains(rest)),
        }
    }

    /// Hangs a set below `element`, unless there is nothing in it.
    pub(super) fn put(&mut self, element: Element, set: Self) {
        if !set.is_empty() {
            self.below.insert(element, set);
        }
    }

    /// Adds what is in `other`.
    pub fn add(&mut self, other: Self) {
        self.here |= other.here;
        if self.below.is_empty() {
            self.below = other.below;
            return;
        }
        for (element, set) in other.below {
            self.below.entry(element).or_default().add(set);
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.add(other.clone());
        union
    }

    /// Removes the paths that are in `other`; what lies below them stays.
    pub fn subtract(&mut self, other: &Self) {
        self.here &= !other.here;
        self.below.retain(|element, set| {
            if let Some(other) = other.below.get(element) {
                set.subtract(other);
            }
            !set.is_empty()
        });
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut difference = self.clone();
        difference.subtract(other);
        difference
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { here: self.here && other.here, below: BTreeMap::new() };
        for (element, set) in &self.below {
            if let Some(other) = other.below.get(element) {
                both.put(element.clone(), set.intersection(other));
            }
        }
        both
    }

    /// The paths with none below them.
    #[must_use]
    pub fn leaves(&self) -> Self {
        let below = self.below.iter().map(|(element, set)| (element.clone(), set.leaves())).collect();
        Self { here: self.here && self.below.is_empty(), below }
    }

    /// All paths, in the order in which Kubernetes lists conflicts: of each node first the members, then what is below.
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        if self.here {
            paths.push(Path::default());
        }
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<Element>, paths: &mut Vec<Path>) {
        for (element, _) in self.below.iter().filter(|(_, set)| set.here) {
            let mut path = prefix.clone();
            path.push(element.clone());
            paths.push(Path(path));
        }
        for (element, set) in self.below.iter().filter(|(_, set)| !set.below.is_empty()) {
            prefix.push(element.clone());
            set.collect(prefix, paths);
            prefix.pop();
        }
    }
}

impl FromIterator<Path> for FieldSet {
    fn from_iter<T: IntoIterator<Item = Path>>(paths: T) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(path.0);
        }
        set
    }
}
