//! The kinds that a server serves, and how requests find them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::Kind;
use crate::store::{KindId, Table};

/// All registered kinds. The position of a kind never changes, so it can serve as its number.
#[derive(Clone, Default)]
pub struct Kinds {
    list: Arc<Vec<Arc<Kind>>>,
    /// Their numbers by their plurals, of which hardly two are the same: every request asks for one.
    by_plural: Arc<BTreeMap<String, Vec<usize>>>,
    /// In the order of `list`.
    store_ids: Arc<Vec<KindId>>,
}

/// Why kinds cannot be registered together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Two kinds would have the same address.
    #[error("the kind {0} is registered twice")]
    Twice(String),
    /// A view names a stored kind that is not registered.
    #[error("{view} is a view of {stored}, which is not registered")]
    ViewOfNothing {
        /// The view.
        view: String,
        /// What it should show.
        stored: String,
    },
}

fn is_at(kind: &Kind, group: &str, version: &str) -> bool {
    kind.group == group && kind.version == version
}

impl Kinds {
    /// Registers kinds; fails if two have one address or a view has nothing behind it.
    pub fn new(kinds: Vec<Kind>) -> Result<Self, Error> {
        let list: Vec<Arc<Kind>> = kinds.into_iter().map(Arc::new).collect();
        let mut by_plural: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, kind) in list.iter().enumerate() {
            let same = by_plural.entry(kind.plural.clone()).or_default();
            if same.iter().any(|other| is_at(&list[*other], &kind.group, &kind.version)) {
                return Err(Error::Twice(format!("{} {}", kind.api_version(), kind.plural)));
            }
            same.push(index);
        }
        let mut store_ids = Vec::with_capacity(list.len());
        for kind in &list {
            let (group, plural) = match &kind.view_of {
                Some(view) => (&view.group, &view.plural),
                None => (&kind.group, &kind.plural),
            };
            let mut stored = list.iter().filter(|k| k.view_of.is_none());
            let position = stored.position(|k| k.group == *group && k.plural == *plural);
            store_ids.push(KindId(position.ok_or_else(|| Error::ViewOfNothing {
                view: kind.qualified_plural(),
                stored: format!("{plural}.{group}"),
            })?));
        }
        Ok(Self { list: Arc::new(list), by_plural: Arc::new(by_plural), store_ids: Arc::new(store_ids) })
    }

    /// Every kind, in the order of registration.
    pub fn all(&self) -> &[Arc<Kind>] {
        &self.list
    }

    /// The number and description of the kind at an address.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<(usize, &Arc<Kind>)> {
        let mut same = self.by_plural.get(plural)?.iter().map(|index| (*index, &self.list[*index]));
        same.find(|(_, kind)| is_at(kind, group, version))
    }

    /// The kind of a number.
    pub fn get(&self, index: usize) -> Option<&Arc<Kind>> {
        self.list.get(index)
    }

    /// The tables of the store, for opening it: one for each kind that is no view of another.
    pub fn tables(&self) -> Vec<Table> {
        self.stored()
            .map(|(_, kind)| Table {
                name: kind.table.clone(),
                retention_seconds: kind.retention_seconds,
                selectable_fields: kind.selectable_fields.clone(),
                sealed: kind.sealed,
            })
            .collect()
    }

    /// Every kind that is no view of another, with its number here; their order is that of the store's tables.
    pub fn stored(&self) -> impl Iterator<Item = (usize, &Arc<Kind>)> {
        self.list.iter().enumerate().filter(|(_, kind)| kind.view_of.is_none())
    }

    /// The store's number of a kind: its own table's, or that of the kind it is a view of.
    pub fn store_id(&self, index: usize) -> KindId {
        self.store_ids[index]
    }

    /// The number here of a kind that the store numbers `id`.
    pub fn of_store(&self, id: KindId) -> Option<(usize, &Arc<Kind>)> {
        self.stored().nth(id.0)
    }

    /// The kind of a `kind` and `apiVersion`, as owner references name it; never a view.
    pub fn find_by_kind(&self, api_version: &str, kind: &str) -> Option<(usize, &Arc<Kind>)> {
        self.stored().find(|(_, k)| k.kind == kind && k.api_version() == api_version)
    }

    /// The number of the core `Namespace` kind, if namespaces are served.
    pub fn namespaces(&self) -> Option<usize> {
        self.find("", "v1", "namespaces").map(|(index, _)| index)
    }
}
