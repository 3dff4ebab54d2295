//! What one agent has been told, and what it must be told next: pure.
//!
//! The WebSocket and the poll use this same file, so that neither can answer what the other would not.

use node_protocol::{Assignment, AssignmentUpdate, Hello, Item, RunState};

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
/// because the change is another release's, and taking the values away would take down what works.
fn carried(assigned: &Assigned, last: Option<&Assignment>) -> std::collections::BTreeMap<node_protocol::ItemKey, Item> {
    let mut items = assigned.items.clone();
    let Some(last) = last else {
        return items;
    };
    for withheld in &assigned.withheld {
        if let Some(item @ Item::Instance(_)) = last.items.get(&withheld.key) {
            items.insert(withheld.key.clone(), item.clone());
        }
    }
    for (key, item) in &mut items {
        if let (Item::Instance(task), Some(Item::Instance(before))) = (item, last.items.get(key))
            && before.state == RunState::Run
        {
            task.env.clone_from(&before.env);
        }
    }
    items
}
