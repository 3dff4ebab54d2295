//! What is promised on which node. It follows the world, and holds what was decided but not stored yet, so that two
//! decisions never promise the same room.

use std::collections::{BTreeMap, BTreeSet};

use crds::instance::InstancePhase;
use crds::{Instance, Node};

use super::place::{self, Amount, Candidate, Refused, Request};
use crate::node;
use crate::world::Key;

/// What is promised on which node.
#[derive(Default)]
pub struct Ledger {
    candidates: Vec<Candidate>,
    positions: BTreeMap<String, usize>,
    promises: BTreeMap<Key, Promise>,
    /// How many instances each application has on each node that has any, by the node's name.
    spread: BTreeMap<Key, BTreeMap<String, usize>>,
    /// Promises on nodes that are not known (any more): they count again if the node is back.
    stray: BTreeMap<String, Amount>,
    /// Instances that have no node.
    waiting: BTreeSet<Key>,
}

#[derive(Clone, Debug, PartialEq)]
struct Promise {
    node: String,
    application: Key,
    amount: Amount,
    /// Whether it is only assumed: decided, and not yet stored.
    assumed: bool,
}

impl Ledger {
    /// Takes in how a node is.
    pub fn set_node(&mut self, name: &str, node: &Node) {
        let allocated = match self.positions.get(name) {
            Some(position) => self.candidates[*position].allocated,
            None => self.stray.remove(name).unwrap_or_default(),
        };
        let candidate = Candidate {
            name: name.to_owned(),
            region: node.spec.region.clone(),
            closed: node::closed(node),
            allocatable: node::allocatable(node),
            allocated,
        };
        if let Some(position) = self.positions.get(name) {
            self.candidates[*position] = candidate;
        } else {
            // In the order of names, so that equal worlds give equal choices, however they came about.
            let position = self.candidates.partition_point(|other| other.name.as_str() < name);
            self.candidates.insert(position, candidate);
            self.number();
        }
    }

    /// Takes in that a node is gone.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(position) = self.positions.get(name).copied() {
            let candidate = self.candidates.remove(position);
            if candidate.allocated != Amount::default() {
                self.stray.insert(candidate.name, candidate.allocated);
            }
            self.number();
        }
    }

    /// Takes in how an instance is. Returns whether room became free.
    pub fn set_instance(&mut self, key: &Key, instance: &Instance) -> bool {
        if super::wants_node(instance) {
            self.waiting.insert(key.clone());
        } else {
            self.waiting.remove(key);
        }
        let phase = instance.status.as_ref().map(|status| status.phase).unwrap_or_default();
        let node = instance.spec.node_name.as_deref();
        match node {
            // A container that has ended for good takes no room.
            Some(node) if !matches!(phase, InstancePhase::Stopped | InstancePhase::Failed) => {
                let promise = Promise {
                    node: node.to_owned(),
                    application: Key::new(&*key.namespace, &instance.spec.application),
                    amount: amount(instance),
                    assumed: false,
                };
                if self.promises.get(key) == Some(&promise) {
                    return false;
                }
                self.take_back(key);
                self.give(key.clone(), promise);
                false
            }
            // The world has not heard yet of what is assumed.
            None if self.promises.get(key).is_some_and(|promise| promise.assumed) => false,
            _ => self.take_back(key),
        }
    }

    /// Takes in that an instance is gone. Returns whether room became free.
    pub fn remove_instance(&mut self, key: &Key) -> bool {
        self.waiting.remove(key);
        self.take_back(key)
    }

    /// Chooses a node and assumes the instance to be there, until the world says so or [`Ledger::forget`] is called.
    pub fn assume(&mut self, key: &Key, instance: &Instance) -> Result<String, Refused> {
        let request = request(instance);
        let application = Key::new(&*key.namespace, &instance.spec.application);
        let position = self.choose(&request, &application)?;
        let node = self.candidates[position].name.clone();
        self.take_back(key);
        self.give(key.clone(), Promise { node: node.clone(), application, amount: request.amount, assumed: true });
        Ok(node)
    }

    /// What [`Ledger::assume`] would say, without assuming anything.
    pub fn try_place(&self, key: &Key, instance: &Instance) -> Result<String, Refused> {
        let application = Key::new(&*key.namespace, &instance.spec.application);
        self.choose(&request(instance), &application).map(|position| self.candidates[position].name.clone())
    }

    /// Gives up an assumption that could not be stored.
    pub fn forget(&mut self, key: &Key) {
        if self.promises.get(key).is_some_and(|promise| promise.assumed) {
            self.take_back(key);
        }
    }

    /// What is promised on a node.
    pub fn allocated(&self, node: &str) -> Amount {
        match self.positions.get(node) {
            Some(position) => self.candidates[*position].allocated,
            None => self.stray.get(node).copied().unwrap_or_default(),
        }
    }

    /// The instances that have no node.
    pub(crate) fn waiting(&self) -> Vec<Key> {
        self.waiting.iter().cloned().collect()
    }

    /// The nodes, by name.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    fn choose(&self, request: &Request, application: &Key) -> Result<usize, Refused> {
        let spread = self.spread.get(application).into_iter().flatten();
        let spread = spread.filter_map(|(node, count)| Some((*self.positions.get(node)?, *count))).collect();
        place::place(request, &self.candidates, &spread)
    }

    fn give(&mut self, key: Key, promise: Promise) {
        let allocated = self.allocated(&promise.node).plus(promise.amount);
        self.set_allocated(&promise.node, allocated);
        *self.spread.entry(promise.application.clone()).or_default().entry(promise.node.clone()).or_default() += 1;
        self.promises.insert(key, promise);
    }

    fn take_back(&mut self, key: &Key) -> bool {
        let Some(promise) = self.promises.remove(key) else { return false };
        let allocated = self.allocated(&promise.node).less(promise.amount);
        self.set_allocated(&promise.node, allocated);
        if let Some(nodes) = self.spread.get_mut(&promise.application) {
            if let Some(count) = nodes.get_mut(&promise.node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&promise.node);
                }
            }
            if nodes.is_empty() {
                self.spread.remove(&promise.application);
            }
        }
        true
    }

    fn set_allocated(&mut self, node: &str, allocated: Amount) {
        if let Some(position) = self.positions.get(node) {
            self.candidates[*position].allocated = allocated;
        } else if allocated == Amount::default() {
            self.stray.remove(node);
        } else {
            self.stray.insert(node.to_owned(), allocated);
        }
    }

    /// Positions follow the order of names. Nodes come and go seldom.
    fn number(&mut self) {
        self.positions =
            self.candidates.iter().enumerate().map(|(position, node)| (node.name.clone(), position)).collect();
    }
}

/// What an instance uses up. An amount that cannot be read counts as more than there is, so that nothing is
/// oversubscribed by a typing error.
pub fn amount(instance: &Instance) -> Amount {
    let template = &instance.spec.template;
    Amount {
        cpu: template.cpu.millis().unwrap_or(u64::MAX >> 8),
        memory: template.memory.units().unwrap_or(u64::MAX >> 8),
        disk: template.disk.units().unwrap_or(u64::MAX >> 8),
        instances: 1,
    }
}

/// What an instance asks for.
pub fn request(instance: &Instance) -> Request {
    Request {
        amount: amount(instance),
        region: instance.spec.template.region.clone(),
        image_node: instance.spec.template.image_node.clone(),
    }
}
