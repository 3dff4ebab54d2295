//! A controller as it may be: a copy of the world that is behind, plans made from it, and crashes in between.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde_json::Value;

use super::store::{Store, Told};
use crate::Settings;
use crate::reconcile::Reconcile;
use crate::scheduler;
use crate::step::{Noun, Step, Target, of_noun};
use crate::world::{Change, Key, Watched, World};

pub(crate) const NOUNS: [Noun; 8] =
    [Noun::Plan, Noun::Runtime, Noun::Node, Noun::Application, Noun::Build, Noun::Release, Noun::Instance, Noun::User];

/// A controller's copy of the world.
pub(crate) struct Replica {
    pub(crate) world: World,
    /// What each kind's watch has still to tell.
    waiting: Vec<VecDeque<Told>>,
    /// How much of what the store told was taken in here.
    heard: usize,
    settings: Settings,
}

impl Replica {
    /// A controller that has just listed everything.
    pub(crate) fn new(store: &Store) -> Self {
        let settings = Settings { platform_domain: "apps.example.com".to_owned(), public_port: None };
        let mut replica = Self {
            world: World::default(),
            waiting: vec![VecDeque::new(); NOUNS.len()],
            heard: store.told.len(),
            settings,
        };
        for noun in NOUNS {
            replica.list(store, noun);
        }
        replica
    }

    /// Lists a kind anew: what its watch had still to tell is lost.
    pub(crate) fn list(&mut self, store: &Store, noun: Noun) {
        self.hear(store);
        self.waiting[noun as usize].clear();
        let objects = store.of(noun);
        of_noun!(noun, K => {
            let list = objects.into_iter().map(|(_, object)| serde_json::from_value::<K>(object).unwrap()).collect();
            for change in K::cache(&self.world).replace(list) {
                self.follow(&change);
            }
        });
    }

    fn hear(&mut self, store: &Store) {
        for told in &store.told[self.heard..] {
            self.waiting[told.name.0 as usize].push_back(told.clone());
        }
        self.heard = store.told.len();
    }

    /// Lets a kind's watch tell up to so many changes.
    pub(crate) fn deliver(&mut self, store: &Store, noun: Noun, most: usize) {
        self.hear(store);
        for _ in 0..most {
            let Some(told) = self.waiting[noun as usize].pop_front() else { return };
            of_noun!(noun, K => {
                let object: K = serde_json::from_value(told.object).unwrap();
                let cache = K::cache(&self.world);
                let change = if told.removed { cache.remove(&object) } else { cache.apply(object) };
                self.follow(&change);
            });
        }
    }

    pub(crate) fn deliver_all(&mut self, store: &Store) {
        for noun in NOUNS {
            self.deliver(store, noun, usize::MAX);
        }
    }

    fn follow<K: Watched>(&self, change: &Change<K>) {
        let Some(object) = change.after.as_ref().or(change.before.as_ref()) else { return };
        let (key, gone) = (Key::of(&**object), change.after.is_none());
        let json = || serde_json::to_value(&**object).unwrap();
        let mut ledger = self.world.ledger();
        match K::KIND {
            "Node" if gone => ledger.remove_node(&key.name),
            "Node" => ledger.set_node(&key.name, &serde_json::from_value(json()).unwrap()),
            "Instance" if gone => drop(ledger.remove_instance(&key)),
            "Instance" => drop(ledger.set_instance(&key, &serde_json::from_value(json()).unwrap())),
            _ => {}
        }
    }

    /// Takes in the answers to writes of its own, as the driver does.
    fn absorb(&self, answers: &[Told]) {
        for told in answers.iter().filter(|told| !told.removed) {
            of_noun!(told.name.0, K => {
                let cache = K::cache(&self.world);
                let object: K = serde_json::from_value(told.object.clone()).unwrap();
                if let Some(change) = cache.absorb(object, cache.epoch()) {
                    self.follow(&change);
                }
            });
        }
    }

    /// The plan for an object as this copy has it, and the status it would publish.
    pub(crate) fn decide(&self, noun: Noun, key: &Key, now: Timestamp) -> Option<(Vec<Step>, Target, Value, Value)> {
        of_noun!(noun, K => {
            let object = K::cache(&self.world).get(key)?;
            let observed = object.observe(&self.world, &self.settings, now);
            let steps = object.plan(&observed);
            let again = object.plan(&object.observe(&self.world, &self.settings, now));
            assert_eq!(steps, again, "the same input gives the same plan");
            let status = serde_json::to_value(object.status(&observed)).unwrap();
            let before = serde_json::to_value(&*object).unwrap()["status"].take();
            Some((steps, Target::of(&*object), before, status))
        })
    }

    /// Reconciles an object. With a `crash`, only so many steps are taken and nothing is published. Returns whether
    /// anything was done.
    pub(crate) fn reconcile(
        &self,
        store: &mut Store,
        noun: Noun,
        key: &Key,
        crash: Option<usize>,
        mut judge: impl FnMut(&Store, &Step),
    ) -> bool {
        let Some((steps, target, before, patch)) = self.decide(noun, key, store.now) else { return false };
        let mut done = false;
        for (taken, step) in steps.iter().enumerate() {
            if crash == Some(taken) {
                return done;
            }
            judge(store, step);
            let told = store.told.len();
            if store.take(step).is_err() {
                break;
            }
            self.absorb(&store.told[told..]);
            done |= !matches!(step, Step::Emit(_));
        }
        if crash.is_some() {
            return done;
        }
        let mut after = before.clone();
        json_patch::merge(&mut after, &patch);
        if after != before {
            let told = store.told.len();
            done |= store.merge(&target, &serde_json::json!({ "status": patch })).is_ok();
            self.absorb(&store.told[told..]);
        }
        done
    }

    /// Schedules all instances that wait, as far as this copy knows of them.
    pub(crate) fn schedule(&self, store: &mut Store) -> bool {
        let mut done = false;
        for instance in self.world.instances.all() {
            if !scheduler::wants_node(&instance) {
                continue;
            }
            let key = Key::of(&*instance);
            let chosen = self.world.ledger().assume(&key, &instance);
            let Ok(node) = chosen else { continue };
            let patch = serde_json::json!({ "spec": { "nodeName": node } });
            let told = store.told.len();
            if store.merge(&Target::exactly(&*instance), &patch).is_ok() {
                self.absorb(&store.told[told..]);
                done = true;
            } else {
                self.world.ledger().forget(&key);
            }
        }
        done
    }
}
