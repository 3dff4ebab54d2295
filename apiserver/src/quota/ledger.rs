//! What is stored and what is about to be stored, added up under one lock a namespace.
//!
//! A claim stands for a write that has been let through and is not seen in the store yet. While both are there, the
//! object is counted once, with the larger of the two: a write that fails has held a little too much for a moment, and
//! never too little.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::limits::{Exceeded, Limit, Quota};
use super::{Amount, Evaluator, Usage, count_name, relevant};
use crate::kind::Kind;
use crate::server::State;
use crate::store::{Key, KindId};

/// All namespaces' accounts.
pub(crate) struct Ledger {
    evaluators: Vec<Arc<dyn Evaluator>>,
    /// Of the namespaces that have a quota: bounded by the number of namespaces.
    accounts: Mutex<HashMap<String, Arc<Mutex<Account>>>>,
}

/// What is known of one namespace.
#[derive(Default)]
struct Account {
    /// What objects use at a revision, where finding that out takes reading them.
    known: HashMap<(KindId, Arc<str>), (u64, Usage)>,
    claims: BTreeMap<u64, (Key, Usage)>,
    next: u64,
}

/// Room that is held until it is dropped.
pub(crate) struct Claim {
    account: Arc<Mutex<Account>>,
    number: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.account.lock().unwrap_or_else(PoisonError::into_inner).claims.remove(&self.number);
    }
}

impl Ledger {
    pub(crate) fn new(evaluators: Vec<Arc<dyn Evaluator>>) -> Self {
        Self { evaluators, accounts: Mutex::default() }
    }

    /// What evaluators measure.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.evaluators.iter().flat_map(|evaluator| evaluator.names().iter().copied()).collect()
    }

    /// Everything that objects of a kind can use.
    pub(super) fn names_of(&self, kind: &Kind) -> BTreeSet<String> {
        let mut names = BTreeSet::from([count_name(kind)]);
        names.extend(self.evaluators_of(kind).flat_map(|evaluator| evaluator.names().iter().map(|&n| n.to_owned())));
        names
    }

    /// Whether somebody measures what a limit is about.
    pub(super) fn measures(&self, state: &State, measured: &str) -> bool {
        let namespaced = state.kinds.stored().filter(|(_, kind)| kind.scope == crate::kind::Scope::Namespaced);
        self.names().contains(measured) || namespaced.into_iter().any(|(_, kind)| count_name(kind) == measured)
    }

    fn evaluators_of<'a>(&'a self, kind: &'a Kind) -> impl Iterator<Item = &'a Arc<dyn Evaluator>> {
        self.evaluators.iter().filter(|evaluator| evaluator.kind() == (kind.group.as_str(), kind.plural.as_str()))
    }

    /// What one object uses; `None` if that cannot be said yet.
    pub(super) fn usage(&self, state: &State, id: KindId, object: &Value) -> Option<Usage> {
        let (_, kind) = state.kinds.of_store(id)?;
        let mut usage = Usage::from([(count_name(kind), Amount::units(1))]);
        let find = |group: &str, plural: &str, namespace: &str, name: &str| {
            let mut kinds = state.kinds.stored();
            let (index, _) = kinds.find(|(_, kind)| kind.group == group && kind.plural == plural)?;
            let key = Key::new(state.kinds.store_id(index), namespace, name);
            state.store.get(&key).map(|object| object.value())
        };
        for evaluator in self.evaluators_of(kind) {
            for (name, amount) in evaluator.usage(object, &find)? {
                let sum = usage.entry(name).or_default();
                *sum = *sum + amount;
            }
        }
        Some(usage)
    }

    /// Holds room for the object `key` to use `usage` instead of `before`, if all quotas have it.
    pub(super) fn claim(
        &self,
        state: &State,
        quotas: &[Quota],
        key: Key,
        usage: Usage,
        before: &Usage,
    ) -> Result<Option<Claim>, Exceeded> {
        let limits: Vec<&Limit> = quotas.iter().flat_map(|quota| &quota.limits).collect();
        let grows =
            |name: &str| usage.get(name).copied().unwrap_or_default() > before.get(name).copied().unwrap_or_default();
        let limits: Vec<&Limit> = limits.into_iter().filter(|limit| grows(&limit.measured)).collect();
        if limits.is_empty() {
            return Ok(None);
        }
        let account = self.account(&key.namespace);
        let mut open = account.lock().unwrap_or_else(PoisonError::into_inner);
        let used = open.add_up(self, state, &key.namespace, &limits);
        if let Some(exceeded) = quotas.iter().find_map(|quota| quota.exceeded(&used, before, &usage)) {
            return Err(exceeded);
        }
        let number = open.next;
        open.next += 1;
        open.claims.insert(number, (key, usage));
        drop(open);
        Ok(Some(Claim { account, number }))
    }

    /// What a namespace uses of what these limits are about.
    pub(super) fn used(&self, state: &State, namespace: &str, quotas: &[Quota]) -> Usage {
        let limits: Vec<&Limit> = quotas.iter().flat_map(|quota| &quota.limits).collect();
        let account = self.account(namespace);
        let mut account = account.lock().unwrap_or_else(PoisonError::into_inner);
        account.add_up(self, state, namespace, &limits)
    }

    /// Forgets a namespace that has no quota any more and where nothing is under way.
    pub(super) fn forget(&self, namespace: &str) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|name, account| name != namespace || Arc::strong_count(account) > 1);
    }

    fn account(&self, namespace: &str) -> Arc<Mutex<Account>> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(accounts.entry(namespace.to_owned()).or_default())
    }
}

impl Account {
    /// Adds up. A kind that is only counted costs a step an object; one with an evaluator is read once for each state.
    fn add_up(&mut self, ledger: &Ledger, state: &State, namespace: &str, limits: &[&Limit]) -> Usage {
        let mut sum = Usage::new();
        let mut claimed: BTreeMap<KindId, BTreeMap<&str, Vec<&Usage>>> = BTreeMap::new();
        for (key, usage) in self.claims.values() {
            claimed.entry(key.kind).or_default().entry(&key.name).or_default().push(usage);
        }
        for (id, kind) in relevant(state, limits) {
            let mut claims = claimed.remove(&id).unwrap_or_default();
            let snapshot = state.store.snapshot(id, namespace);
            if ledger.evaluators_of(kind).next().is_none() {
                let mut count = 0;
                for object in snapshot.iter() {
                    claims.remove(&*object.name);
                    count += 1;
                }
                count += claims.len() as u64;
                add(&mut sum, [&Usage::from([(count_name(kind), Amount::units(count))])].into_iter());
                continue;
            }
            let mut known = HashMap::new();
            for object in snapshot.iter() {
                let place = (id, Arc::clone(&object.name));
                let usage = match self.known.remove(&place) {
                    Some((revision, usage)) if revision == object.revision => Some(usage),
                    _ => ledger.usage(state, id, &object.value()),
                };
                let certain = usage.is_some();
                // If it cannot be said yet, the object is counted, and asked again.
                let usage = usage.unwrap_or_else(|| Usage::from([(count_name(kind), Amount::units(1))]));
                let claims = claims.remove(&*object.name).unwrap_or_default();
                add(&mut sum, claims.into_iter().chain([&usage]));
                if certain {
                    known.insert(place, (object.revision, usage));
                }
            }
            // What is claimed and not stored yet.
            for claims in claims.into_values() {
                add(&mut sum, claims.into_iter());
            }
            self.known.retain(|(kept, _), _| *kept != id);
            self.known.extend(known);
        }
        sum
    }
}

/// Adds one object, with the largest of what is said of it.
fn add<'a>(sum: &mut Usage, states: impl Iterator<Item = &'a Usage>) {
    let mut largest = BTreeMap::<&str, Amount>::new();
    for (name, amount) in states.flatten() {
        let known = largest.entry(name).or_default();
        *known = (*known).max(*amount);
    }
    for (name, amount) in largest {
        match sum.get_mut(name) {
            Some(known) => *known = *known + amount,
            None => {
                sum.insert(name.to_owned(), amount);
            }
        }
    }
}
