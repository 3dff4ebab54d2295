//! What one agent has been told, and what it must be told next: pure.
//!
//! The WebSocket and the poll use this same file, so that neither can answer what the other would not.

use std::collections::BTreeMap;

use node_protocol::{Assignment, AssignmentUpdate, Hello, Item, ItemKey, RunState};

use super::assign::Assigned;

/// The assignment as an agent has it, or will once it has applied what was sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    told: Assignment,
}

impl Link {
    /// Takes up where an agent stands. `last` is what this gateway told the same node before, if it remembers.
    ///
    /// Nothing is sent when the agent has just that; otherwise the whole, whatever revision it claims: a revision says
    /// only when, and not what.
    pub fn resume(hello: &Hello, assigned: &Assigned, last: Option<&Assignment>) -> (Self, Option<AssignmentUpdate>) {
        let mut next = Assignment { revision: 0, items: carried(assigned, last) };
        let known = last.map_or(0, |last| last.revision);
        let theirs = hello.revision.unwrap_or(0);
        if hello.revision.is_some() && hello.digest.as_deref() == Some(next.digest().as_str()) {
            next.revision = theirs;
            return (Self { told: next }, None);
        }
        next.revision = known.max(theirs) + 1;
        let update = next.whole();
        (Self { told: next }, Some(update))
    }

    /// What to send now that `assigned` is wanted; `None` when that changes nothing.
    pub fn advance(&mut self, assigned: &Assigned) -> Option<AssignmentUpdate> {
        let items = carried(assigned, Some(&self.told));
        if items == self.told.items {
            return None;
        }
        let next = Assignment { revision: self.told.revision + 1, items };
        let update = next.since(&self.told);
        self.told = next;
        Some(update)
    }

    /// What the agent has been told.
    pub fn told(&self) -> &Assignment {
        &self.told
    }
}

/// The items to tell, given what was told before.
///
/// An instance never changes: one that runs keeps the values it was started with when its Secret changes or goes,
/// because the change is another release's, and taking the values away would take down what works. Where nothing is
/// remembered of it, the agent is told to keep it as it is.
fn carried(assigned: &Assigned, last: Option<&Assignment>) -> BTreeMap<ItemKey, Item> {
    let mut items = assigned.items.clone();
    let told = |key: &ItemKey| match last.and_then(|last| last.items.get(key)) {
        Some(Item::Instance(before)) if before.state == RunState::Run && !before.keep => Some(before),
        _ => None,
    };
    for withheld in &assigned.withheld {
        if let Some(task) = told(&withheld.key).or(withheld.keep.as_deref()) {
            items.insert(withheld.key.clone(), Item::Instance(task.clone()));
        }
    }
    for (key, item) in &mut items {
        if let (Item::Instance(task), Some(before)) = (item, told(key)) {
            task.env.clone_from(&before.env);
        }
    }
    items
}
