//! The controller's plans and statuses in a world that goes wrong: copies that are behind, lists instead of lost
//! changes, crashes between steps, two controllers at once, nodes that fall silent, people who change their minds.
//! One seed gives one run; a failure names it.

mod dice;
mod machines;
mod replica;
mod store;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::dice::Dice;
use self::machines::Machines;
use self::replica::{NOUNS, Replica};
use self::store::{Store, is_deleted, target};
use crate::step::{Noun, Step};
use crate::world::Key;

const APPLICATIONS: [&str; 2] = ["shop", "web"];
/// The most instances that anybody asks for, and what a rollout may have beyond.
const INSTANCES_MAX: usize = 3;
const SURGE: usize = 1;
/// What happens before all is well again.
const STEPS: usize = 300;
/// More rounds than any run needs; a plan that goes round in circles needs more.
const ROUNDS_MAX: usize = 400;

/// What may happen in a run.
#[derive(Clone, Copy)]
struct Weather {
    controllers: usize,
    /// Nodes fall silent and come back.
    silence: bool,
    /// People also stop, empty and delete applications, or ask for what cannot start or be had.
    trouble: bool,
}

struct Run {
    store: Store,
    controllers: Vec<Replica>,
    machines: Machines,
    dice: Dice,
    weather: Weather,
    seed: u64,
    /// How often each kind of fault was met, so that a test can show that it was.
    met: BTreeMap<&'static str, usize>,
}

impl Run {
    fn new(seed: u64, weather: Weather) -> Self {
        let mut store = Store::default();
        store.now = "2026-01-01T00:00:00Z".parse().unwrap();
        // What was built runs where it was built: room for both applications at their largest, twice with two controllers.
        for (name, memory) in [("a", "10Gi"), ("b", "10Gi"), ("c", "10Gi")] {
            store.create(Noun::Node, machines::node(name, memory)).unwrap();
        }
        for (name, memory) in [("small", "128Mi"), ("big", "512Mi")] {
            let spec = json!({ "cpu": "100m", "memory": memory, "disk": "1Gi", "pricePerHour": "0.01",
                "maxInstances": 10, "for": "Application", "currency": "EUR", "active": true });
            store.create(Noun::Plan, object("Plan", &json!({ "name": name }), &spec)).unwrap();
        }
        let mut dice = Dice::new(seed);
        for name in APPLICATIONS {
            let source = if dice.one_in(2) { git("main") } else { image("app:1") };
            let metadata = json!({ "name": name, "namespace": "acme" });
            let spec = json!({ "source": source, "plan": "small", "instances": 1, "running": true });
            store.create(Noun::Application, object("Application", &metadata, &spec)).unwrap();
        }
        let controllers = (0..weather.controllers).map(|_| Replica::new(&store)).collect();
        Self { store, controllers, machines: Machines::default(), dice, weather, seed, met: BTreeMap::new() }
    }

    /// One thing happens.
    fn happen(&mut self) {
        let mut met = |what: &'static str| *self.met.entry(what).or_default() += 1;
        let controller = self.dice.below(self.controllers.len());
        match self.dice.below(20) {
            0..=6 => self.reconcile(controller),
            7..=9 => {
                let (noun, most) = (*self.dice.pick(&NOUNS), 1 + self.dice.below(4));
                self.controllers[controller].deliver(&self.store, noun, most);
            }
            10 => {
                met("lists instead of lost changes");
                let noun = *self.dice.pick(&NOUNS);
                self.controllers[controller].list(&self.store, noun);
            }
            11..=12 => {
                self.controllers[controller].schedule(&mut self.store);
            }
            13..=15 => {
                self.machines.work(&mut self.store, &mut self.dice);
            }
            16 => self.store.collect_garbage(),
            17 => self.person(),
            18 if self.weather.silence => {
                let node = (*self.dice.pick(&["a", "b", "c"])).to_owned();
                met("nodes that fall silent");
                if !self.machines.silent.remove(&node) {
                    self.machines.silent.insert(node);
                }
            }
            19 if self.dice.one_in(4) => {
                met("restarts of a controller");
                self.controllers[controller] = Replica::new(&self.store);
            }
            _ => {
                let long = self.dice.one_in(10);
                let seconds = if long && self.weather.silence { 400 } else { 2 };
                self.store.now += jiff::SignedDuration::from_secs(seconds);
                if long {
                    // Agents have had that time too.
                    for _ in 0..6 {
                        self.machines.work(&mut self.store, &mut self.dice);
                    }
                }
                if !self.weather.silence {
                    // Nor is anybody so far behind that a node seems silent.
                    self.machines.beat(&mut self.store);
                    self.controllers.iter_mut().for_each(|it| it.deliver(&self.store, Noun::Node, usize::MAX));
                }
            }
        }
        self.check_always();
    }

    fn reconcile(&mut self, controller: usize) {
        let noun = if self.dice.one_in(2) { Noun::Application } else { *self.dice.pick(&NOUNS) };
        let keys = self.controllers[controller].keys(noun);
        if keys.is_empty() {
            return;
        }
        let key = self.dice.pick(&keys).clone();
        let crash = self.dice.one_in(4).then(|| self.dice.below(4));
        if crash.is_some() {
            *self.met.entry("crashes behind a step").or_default() += 1;
        }
        let (weather, seed) = (self.weather, self.seed);
        self.controllers[controller]
            .reconcile(&mut self.store, noun, &key, crash, |store, step| judge(store, step, weather, seed));
    }

    /// Somebody changes their mind, or pushes a commit.
    fn person(&mut self) {
        let name = *self.dice.pick(&APPLICATIONS);
        let key = Key::new("acme", name);
        let Some(application) = self.store.get(Noun::Application, &key).cloned() else { return };
        let count = 1 + self.dice.below(INSTANCES_MAX);
        let number = self.dice.below(1000);
        let mut wishes = vec![
            json!({ "spec": { "instances": count } }),
            json!({ "spec": { "source": image(&format!("app:{}", number % 3)) } }),
            json!({ "spec": { "source": git("main") } }),
            json!({ "spec": { "plan": self.dice.pick(&["small", "big"]) } }),
            json!({ "metadata": { "annotations": { "berth.dev/deploy": number.to_string() } } }),
            json!({ "metadata": { "annotations": { "berth.dev/restart": number.to_string() } } }),
            source_report(&application, number % 3),
            source_report(&application, number % 3),
        ];
        if self.weather.trouble {
            wishes.extend([
                json!({ "spec": { "source": image("broken:1") } }),
                json!({ "spec": { "source": git("broken") } }),
                json!({ "spec": { "plan": "none-such" } }),
                json!({ "spec": { "running": self.dice.one_in(2) } }),
                json!({ "spec": { "instances": 0 } }),
            ]);
            if self.dice.one_in(12) {
                *self.met.entry("deletions").or_default() += 1;
                self.store.delete(&target(&(Noun::Application, key), &application)).unwrap();
                return;
            }
        }
        let wish = self.dice.pick(&wishes).clone();
        self.store.merge(&target(&(Noun::Application, key), &application), &wish).unwrap();
    }

    /// No node is promised more than it has, and no rollout has more than it may.
    fn check_always(&self) {
        let alive = |object: &Value| !matches!(object["status"]["phase"].as_str(), Some("Stopped" | "Failed"));
        let all = |noun: Noun| self.store.objects.iter().filter(move |((kind, _), _)| *kind == noun);
        let instances: Vec<&Value> = all(Noun::Instance).map(|(_, object)| object).collect();
        for ((_, node), object) in all(Noun::Node) {
            let Some(limit) = object["status"]["allocatable"]["memory"].as_str() else { continue };
            let bytes = |text: &str| text.parse::<crds::quantity::Quantity>().unwrap().units().unwrap();
            let here = instances.iter().filter(|it| it["spec"]["nodeName"] == json!(node.name) && alive(it));
            let sum: u64 = here.map(|it| bytes(it["spec"]["template"]["memory"].as_str().unwrap())).sum();
            assert!(sum <= bytes(limit), "seed {}: node {node} is oversubscribed: {sum} of {limit}", self.seed);
        }
        if self.weather.silence || self.controllers.len() > 1 {
            return;
        }
        for name in APPLICATIONS {
            let live = instances.iter().filter(|it| it["spec"]["application"] == json!(name));
            let live = live.filter(|it| alive(it) && !is_deleted(it)).count();
            let names: Vec<&Value> = instances.iter().map(|it| &it["metadata"]["name"]).collect();
            assert!(live <= INSTANCES_MAX + SURGE, "seed {}: {live} instances of {name}: {names:?}", self.seed);
        }
    }

    /// All is well from now on, and the run goes on until nothing happens any more, however long one waits.
    fn settle(&mut self) {
        self.machines.silent.clear();
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            let mut done = self.machines.work(&mut self.store, &mut self.dice);
            for controller in 0..self.controllers.len() {
                self.controllers[controller].deliver_all(&self.store);
                for noun in NOUNS {
                    for key in self.controllers[controller].keys(noun) {
                        let (weather, seed) = (self.weather, self.seed);
                        done |=
                            self.controllers[controller].reconcile(&mut self.store, noun, &key, None, |store, step| {
                                judge(store, step, weather, seed);
                            });
                        self.controllers[controller].deliver_all(&self.store);
                    }
                }
                done |= self.controllers[controller].schedule(&mut self.store);
            }
            self.report_sources();
            self.store.collect_garbage();
            self.check_always();
            // Time must not change anything either: pauses end, deadlines pass.
            self.store.now += jiff::SignedDuration::from_secs(if done { 1 } else { 90 });
            quiet = if done { 0 } else { quiet + 1 };
            if quiet > 14 {
                return;
            }
        }
        panic!("seed {}: it does not come to rest", self.seed);
    }

    /// The source watcher tells of every branch in the end.
    fn report_sources(&mut self) {
        for (key, application) in self.store.of(Noun::Application) {
            let report = source_report(&application, 1);
            let (told, due) = (&application["status"]["source"], &report["status"]["source"]);
            if told["of"] != due["of"] || told["deploy"] != due["deploy"] {
                self.store.merge(&target(&(Noun::Application, key), &application), &report).unwrap();
            }
        }
    }

    /// The goal, said without a look at any plan.
    fn check_goal(&self) {
        for name in APPLICATIONS {
            let key = Key::new("acme", name);
            let mine = |noun: Noun| -> Vec<Value> {
                let of = |object: &Value| object["spec"]["application"] == json!(name);
                self.store.of(noun).into_iter().map(|(_, object)| object).filter(of).collect()
            };
            let (seed, instances) = (self.seed, mine(Noun::Instance));
            let Some(application) = self.store.get(Noun::Application, &key) else {
                assert_eq!(instances, Vec::<Value>::new(), "seed {seed}: {name} left instances behind");
                assert_eq!(mine(Noun::Release), Vec::<Value>::new(), "seed {seed}: {name} left releases behind");
                assert_eq!(mine(Noun::Build), Vec::<Value>::new(), "seed {seed}: {name} left builds behind");
                continue;
            };
            assert!(!is_deleted(application), "seed {seed}: {name} was to go and is still there");
            let spec = &application["spec"];
            let told = |type_: &str| {
                let list = application["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let one = list.into_iter().find(|condition| condition["type"] == json!(type_)).unwrap_or_default();
                (one["status"].as_str().unwrap_or("").to_owned(), one["reason"].as_str().unwrap_or("").to_owned())
            };
            let serves = |instance: &Value| {
                instance["status"]["ready"] == json!(true) && instance["status"]["routed"] == json!(true)
            };
            let serving = instances.iter().filter(|instance| serves(instance)).count();
            let wanted = if spec["running"] == json!(true) { spec["instances"].as_u64().unwrap() } else { 0 };
            let wanted = usize::try_from(wanted).unwrap();
            let what = format!("seed {seed}: {name} {spec} {:?} {:?}", told("Ready"), told("RolledOut"));
            if wanted == 0 {
                assert_eq!(instances.len(), 0, "{what}");
                continue;
            }
            let branch = spec["source"]["git"]["branch"].as_str();
            let broken = branch == Some("broken") || spec["source"]["image"]["reference"] == json!("broken:1");
            if spec["plan"] == json!("none-such") {
                assert_eq!(told("Ready").1, "PlanNotFound", "{what}");
            } else if !broken {
                assert_eq!(serving, wanted, "{what}");
                assert_eq!(told("Ready"), ("True".to_owned(), "Running".to_owned()), "{what}");
                assert_eq!(told("RolledOut").0, "True", "{what}");
                let image = |instance: &Value| instance["spec"]["template"]["image"].as_str().unwrap().to_owned();
                let right = |image: &str| match branch {
                    Some(_) => image.starts_with("built/"),
                    None => Some(image) == spec["source"]["image"]["reference"].as_str(),
                };
                assert!(instances.iter().all(|instance| right(&image(instance))), "{what}");
            }
            // Whatever was asked for: a release that has served goes on serving, whole, and nothing else is about.
            let active = application["status"]["activeRelease"].as_str();
            let good = mine(Noun::Release).into_iter().find(|release| release["metadata"]["name"].as_str() == active);
            if good.is_some_and(|release| release["spec"]["template"]["image"] != json!("broken:1")) {
                assert_eq!((serving, instances.len()), (wanted, wanted), "{what}");
            }
        }
    }
}

impl Replica {
    fn keys(&self, noun: Noun) -> Vec<Key> {
        crate::step::of_noun!(noun, K => <K as crate::world::Watched>::cache(&self.world).keys())
    }
}

/// Where nobody asks for an application to be stopped and no node is silent, the last instance that answers stays.
///
/// Of two controllers at once each may take for old what the other has just made: that there is only one leader is what
/// keeps them from it, and all that is asked of two is that they end where one would.
fn judge(store: &Store, step: &Step, weather: Weather, seed: u64) {
    let Step::Delete(of) = step else { return };
    if of.noun != Noun::Instance || weather.silence || weather.trouble || weather.controllers > 1 {
        return;
    }
    let Some(instance) = store.get(Noun::Instance, &of.key) else { return };
    let current = instance["metadata"]["resourceVersion"].as_str() == of.resource_version.as_deref();
    let serves = |it: &Value| it["status"]["routed"] == json!(true) && !is_deleted(it);
    if !serves(instance) || !current {
        return;
    }
    let application = &instance["spec"]["application"];
    let others = store.of(Noun::Instance).into_iter();
    let others = others.filter(|(key, it)| *key != of.key && it["spec"]["application"] == *application && serves(it));
    assert!(others.count() > 0, "seed {seed}: {} was the last of {application} that answered", of.key);
}

fn object(kind: &str, metadata: &Value, spec: &Value) -> Value {
    json!({ "apiVersion": "berth.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
}

fn git(branch: &str) -> Value {
    let git = json!({ "url": "https://git.example.com/a/b.git", "branch": branch, "path": ".", "autoDeploy": true });
    json!({ "git": git, "image": null })
}

fn image(reference: &str) -> Value {
    json!({ "image": { "reference": reference }, "git": null })
}

fn source_report(application: &Value, commit: usize) -> Value {
    let branch = application["spec"]["source"]["git"]["branch"].as_str().unwrap_or("main");
    let of = format!("https://git.example.com/a/b.git#{branch}");
    let deploy = &application["metadata"]["annotations"]["berth.dev/deploy"];
    let commit = commit.to_string().repeat(40);
    json!({ "status": { "source": { "of": of, "deploy": deploy, "commit": commit, "error": null } } })
}

/// Runs seeds one after the other, each a tenth to a third of a second without optimisation: the counts below take half a
/// minute of two processors together. Says which faults were met how often.
fn runs(seeds: std::ops::Range<u64>, weather: Weather) -> BTreeMap<&'static str, usize> {
    let mut met: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in seeds {
        let mut run = Run::new(seed, weather);
        for _ in 0..STEPS {
            run.happen();
        }
        run.settle();
        run.check_goal();
        for (what, count) in run.met {
            *met.entry(what).or_default() += count;
        }
    }
    met
}

/// Seeds that found something.
#[test]
fn what_was_found_stays_found() {
    for seed in [4, 10_009, 10_029, 10_033] {
        runs(seed..seed + 1, Weather { controllers: 1, silence: false, trouble: false });
    }
    for seed in [30_021, 30_108] {
        runs(seed..seed + 1, Weather { controllers: 1, silence: true, trouble: true });
    }
}

#[test]
fn what_serves_goes_on_serving_whatever_is_deployed() {
    runs(0..80, Weather { controllers: 1, silence: false, trouble: false });
}

#[test]
fn two_controllers_end_where_one_would() {
    runs(1000..1050, Weather { controllers: 2, silence: false, trouble: false });
}

#[test]
fn every_run_ends_where_it_should() {
    let met = runs(2000..2200, Weather { controllers: 1, silence: true, trouble: true });
    for fault in [
        "crashes behind a step",
        "deletions",
        "lists instead of lost changes",
        "nodes that fall silent",
        "restarts of a controller",
    ] {
        assert!(met.get(fault).is_some_and(|count| *count > 5), "{fault} was hardly met: {met:?}");
    }
}

/// For longer than a test may take: `make soak`.
#[test]
#[ignore = "takes minutes"]
fn soak() {
    runs(10_000..10_200, Weather { controllers: 1, silence: false, trouble: false });
    runs(20_000..20_200, Weather { controllers: 2, silence: false, trouble: false });
    runs(30_000..30_200, Weather { controllers: 1, silence: true, trouble: true });
    runs(40_000..40_200, Weather { controllers: 2, silence: true, trouble: true });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let weather = Weather { controllers: 2, silence: true, trouble: true };
    let end = || {
        let mut run = Run::new(7, weather);
        (0..STEPS).for_each(|_| run.happen());
        run.store.objects
    };
    assert_eq!(end(), end());
}
