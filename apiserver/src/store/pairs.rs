//! A small sorted map of strings: labels and selectable fields, which most objects have few of and many share.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A sorted list of keys and values. A `BTreeMap` would take half a kilobyte for the first entry alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pairs(Box<[(Arc<str>, Arc<str>)]>);

impl Pairs {
    pub(super) fn new(mut pairs: Vec<(Arc<str>, Arc<str>)>) -> Self {
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|a, b| a.0 == b.0);
        Self(pairs.into_boxed_slice())
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// Whether `key` is there.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// All keys and values, in the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self::new(pairs.into_iter().map(|(k, v)| (k.as_ref().into(), v.as_ref().into())).collect())
    }
}

/// Lets equal strings share one allocation: namespaces, label keys and label values repeat on thousands of objects.
#[derive(Debug, Default)]
pub(super) struct Interner(Mutex<HashSet<Arc<str>>>);

/// Past this many strings the table starts anew, so that values which never repeat cannot fill memory. Strings in use
/// live on in their objects; only their sharing with later ones is lost. 16,384 strings are about 1 MB.
const STRINGS_MAX: usize = 16_384;
/// Longer strings are hardly ever repeated: a label's value has at most 63 characters.
const SHARED_BYTES_MAX: usize = 128;

impl Interner {
    pub(super) fn get(&self, text: &str) -> Arc<str> {
        if text.len() > SHARED_BYTES_MAX {
            return text.into();
        }
        let mut strings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = strings.get(text) {
            return Arc::clone(found);
        }
        if strings.len() >= STRINGS_MAX {
            strings.clear();
        }
        let new: Arc<str> = text.into();
        strings.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_a_sorted_map() {
        let pairs: Pairs = [("b", "2"), ("a", "1"), ("c", "3")].into_iter().collect();
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!((pairs.get("b"), pairs.get("d"), pairs.contains_key("c")), (Some("2"), None, true));
    }

    #[test]
    fn the_interner_shares_and_stays_bounded() {
        let interner = Interner::default();
        assert!(Arc::ptr_eq(&interner.get("team"), &interner.get("team")));
        for n in 0..STRINGS_MAX * 2 {
            interner.get(&n.to_string());
        }
        assert!(interner.0.lock().unwrap().len() <= STRINGS_MAX);
        let long = "x".repeat(SHARED_BYTES_MAX + 1);
        assert!(!Arc::ptr_eq(&interner.get(&long), &interner.get(&long)));
    }
}
