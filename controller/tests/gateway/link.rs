//! What an agent is told, given what it has.

use std::collections::BTreeMap;

use controller::gateway::assign::{Assigned, Withheld};
use controller::gateway::index::Objects;
use controller::gateway::link::Link;
use node_protocol::{Assignment, Hello, Item, ItemKey, RouteTask};
use proptest::prelude::*;
use serde_json::json;

use crate::assign::{assigned, instance, secret};

fn hello(has: &Assignment) -> Hello {
    Hello { protocol: 1, agent_version: "1".to_owned(), revision: Some(has.revision), digest: Some(has.digest()) }
}

fn routes(numbers: impl IntoIterator<Item = (u8, u8)>) -> Assigned {
    let items: BTreeMap<ItemKey, Item> = numbers
        .into_iter()
        .map(|(uid, host)| {
            let item = Item::Route(RouteTask {
                application_uid: uid.to_string(),
                namespace: "acme".to_owned(),
                application: "web".to_owned(),
                hosts: vec![format!("{host}.example.com")],
            });
            (item.key(), item)
        })
        .collect();
    Assigned { items, withheld: Vec::new() }
}

#[test]
fn an_agent_that_has_everything_is_told_nothing_and_keeps_its_revision() {
    let wanted = routes([(1, 1)]);
    let has = Assignment { revision: 41, items: wanted.items.clone() };
    let (mut link, update) = Link::resume(&hello(&has), &wanted, None);
    assert_eq!(update, None);
    let next = link.advance(&routes([(1, 2)])).unwrap();
    assert_eq!((next.base, next.revision), (Some(41), 42));
    assert_eq!(link.advance(&routes([(1, 2)])), None);
}

#[test]
fn an_agent_that_has_something_else_is_told_the_whole_above_both_revisions() {
    let wanted = routes([(1, 1)]);
    let check = |revision: Option<u64>, last: Option<u64>, expected: u64| {
        let hello = Hello { revision, digest: Some("other".to_owned()), ..Hello::default() };
        let last = last.map(|revision| Assignment { revision, items: BTreeMap::new() });
        let (_, update) = Link::resume(&hello, &wanted, last.as_ref());
        let update = update.unwrap();
        assert_eq!((update.base, update.revision), (None, expected));
    };
    check(None, None, 1);
    check(Some(7), None, 8);
    check(Some(7), Some(9), 10);
    check(Some(12), Some(9), 13);
}

#[test]
fn what_runs_keeps_its_values_when_their_secret_changes_or_goes() {
    let env = json!([{ "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "web", "key": "key" } } }]);
    let at = |secrets: &[&str]| {
        let instance = instance("acme", "web-0", "i-1", "web", "a", &env);
        let secrets = secrets.iter().map(|value| secret("acme", "web", &[("key", value)]));
        assigned(
            "a",
            Objects {
                instances: vec![instance.into()],
                secrets: secrets.map(Into::into).collect(),
                ..Objects::default()
            },
        )
    };
    let (mut link, first) = Link::resume(&Hello::default(), &at(&["old"]), None);
    assert_eq!(first.unwrap().upserts.len(), 1);
    assert_eq!(link.advance(&at(&["new"])), None);
    assert_eq!(link.advance(&at(&[])), None);
    let (_, again) = Link::resume(&hello(link.told()), &at(&[]), Some(link.told()));
    assert_eq!(again, None, "also over a new connection");
    let gone = link.advance(&Assigned::default()).unwrap();
    assert_eq!(gone.removals.len(), 1, "an instance that is gone is gone");
}

#[test]
fn after_a_restart_of_the_server_what_runs_is_kept_although_its_secret_is_gone() {
    let env = json!([{ "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "web", "key": "key" } } }]);
    let at = |made: bool, secrets: &[&str]| {
        let mut instance = instance("acme", "web-0", "i-1", "web", "a", &env);
        instance.status.get_or_insert_default().container_id = made.then(|| "c1".to_owned());
        let secrets = secrets.iter().map(|value| secret("acme", "web", &[("key", value)]).into());
        let objects = Objects { instances: vec![instance.into()], secrets: secrets.collect(), ..Objects::default() };
        assigned("a", objects)
    };
    let told = |link: &Link| match link.told().items.values().next() {
        Some(Item::Instance(task)) => Some((task.keep, task.env.len())),
        _ => None,
    };
    let (mut before, first) = Link::resume(&Hello::default(), &at(true, &["old"]), None);
    assert!(first.is_some());
    // Another server, which remembers nothing.
    let (mut link, _) = Link::resume(&hello(before.told()), &at(true, &[]), None);
    assert_eq!(told(&link), Some((true, 0)), "the agent is told to keep it");
    assert!(link.advance(&at(true, &["new"])).is_some());
    assert_eq!(told(&link), Some((false, 1)), "with its Secret back it has values again");
    let (link, _) = Link::resume(&Hello::default(), &at(false, &[]), None);
    assert_eq!(told(&link), None, "what has no container is not to get one");
    assert_eq!(before.advance(&at(true, &[])), None, "who remembers goes on as before");
}

#[test]
fn what_never_ran_is_not_told_while_it_is_withheld() {
    let key = ItemKey::Instance("i".to_owned());
    let withheld = Withheld { key, reason: "X", message: String::new(), keep: None };
    let (link, update) =
        Link::resume(&Hello::default(), &Assigned { items: BTreeMap::new(), withheld: vec![withheld] }, None);
    assert_eq!((link.told().items.len(), update.unwrap().upserts.len()), (0, 0));
}

#[derive(Clone, Debug)]
enum Event {
    /// The wanted items change.
    Want(Vec<(u8, u8)>),
    /// The connection breaks before what was sent last has arrived, or after, and is made anew.
    Reconnect { lost: bool },
    /// The gateway is started anew and remembers nothing.
    Restart { lost: bool },
    /// The agent's disk comes back from a backup.
    Restore,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => proptest::collection::vec((0..6_u8, 0..3_u8), 0..6).prop_map(Event::Want),
        2 => any::<bool>().prop_map(|lost| Event::Reconnect { lost }),
        1 => any::<bool>().prop_map(|lost| Event::Restart { lost }),
        1 => Just(Event::Restore),
    ]
}

proptest! {
    /// Whatever is lost, after the last word the agent has what is wanted, and its revision has never fallen but by a
    /// restored disk.
    #[test]
    fn an_agent_ends_with_what_is_wanted(events in proptest::collection::vec(event(), 1..30)) {
        let mut wanted = Assigned::default();
        let mut agent = Assignment::default();
        let mut backup = agent.clone();
        let (mut link, update) = Link::resume(&Hello::default(), &wanted, None);
        prop_assert!(agent.apply(update.unwrap()));
        let mut in_flight = None;
        for event in events {
            let before = agent.revision;
            match event {
                Event::Want(numbers) => {
                    if let Some(update) = in_flight.take() {
                        prop_assert!(agent.apply(update));
                    }
                    wanted = routes(numbers);
                    in_flight = link.advance(&wanted);
                }
                Event::Reconnect { lost } | Event::Restart { lost } => {
                    if let Some(update) = in_flight.take().filter(|_| !lost) {
                        prop_assert!(agent.apply(update));
                    }
                    let remembered = link.told().clone();
                    let last = matches!(event, Event::Reconnect { .. }).then_some(&remembered);
                    let (resumed, update) = Link::resume(&hello(&agent), &wanted, last);
                    link = resumed;
                    if let Some(update) = update {
                        prop_assert!(agent.apply(update));
                    }
                    prop_assert_eq!(&agent, link.told());
                }
                Event::Restore => {
                    in_flight = None;
                    std::mem::swap(&mut agent, &mut backup);
                    let (resumed, update) = Link::resume(&hello(&agent), &wanted, None);
                    link = resumed;
                    if let Some(update) = update {
                        prop_assert!(agent.apply(update));
                    }
                    continue;
                }
            }
            prop_assert!(agent.revision >= before);
        }
        if let Some(update) = in_flight {
            prop_assert!(agent.apply(update));
        }
        prop_assert_eq!(&agent.items, &wanted.items);
        prop_assert_eq!(&agent, link.told());
    }
}
