//! Servers as programs that are killed, several on one PostgreSQL or one on a file: one order of writes must explain all that
//! clients saw.

#![expect(clippy::panic, clippy::print_stdout, reason = "a test fails by a panic, and says its seed")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use crate::berth::{Outcome, Server, free_port, program, run, wait_for};

/// Nothing takes this long; it only ends a test that hangs.
const PATIENCE: Duration = Duration::from_mins(2);
const WRITERS: usize = 5;
const WATCHERS: usize = 3;
/// How long they are written to while they are killed.
const TIME: Duration = Duration::from_secs(8);
/// And until so many of their writes were done.
const DONE_MIN: usize = 30;
/// The time where many runs are wanted.
const SOAK_TIME: Duration = Duration::from_secs(3);

/// A database of one test in the tests' cluster.
pub(crate) struct Database(String);

impl Database {
    pub(crate) fn new() -> Self {
        Self(script(&["create"]))
    }

    pub(crate) fn url(&self) -> &str {
        &self.0
    }

    /// All that is in it, as `pg_dump` writes it.
    pub(crate) fn dump(&self) -> String {
        script(&["dump", &self.0])
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        script(&["drop", &self.0]);
    }
}

fn script(arguments: &[&str]) -> String {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/postgres"));
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What a history is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// One server, which has a file.
    InAFile,
    /// Three servers on one PostgreSQL.
    Shared,
    /// The same, and the database is killed too.
    SharedAndKilled,
}

/// Where the servers of a history keep what they keep.
enum Place {
    File,
    Database(Database),
    /// A cluster of its own, in this folder.
    Cluster {
        folder: tempfile::TempDir,
        url: String,
    },
}

impl Place {
    fn new(kept: Kept) -> Self {
        match kept {
            Kept::InAFile => Self::File,
            Kept::Shared => Self::Database(Database::new()),
            Kept::SharedAndKilled => {
                let folder = tempfile::tempdir().unwrap();
                // PostgreSQL runs as a user of its own.
                std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
                let printed = script(&["ensure", "--folder", folder.path().join("pg").to_str().unwrap()]);
                let url = printed.strip_prefix("BERTH_POSTGRES=").unwrap().to_owned();
                Self::Cluster { folder, url }
            }
        }
    }

    fn servers(&self) -> usize {
        if matches!(self, Self::File) { 1 } else { 3 }
    }

    fn start(&self, folder: &Path, port: u16) -> Server {
        match self {
            Self::File => Server::spawn(folder, port),
            Self::Database(database) => start(folder, port, database.url()),
            Self::Cluster { url, .. } => start(folder, port, url),
        }
    }

    /// Ends the database without letting it finish anything, and starts it again.
    fn kill(&self) {
        if let Self::Cluster { folder, .. } = self {
            script(&["restart", "--immediate", "--folder", folder.path().join("pg").to_str().unwrap()]);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Cluster { folder, .. } = self {
            script(&["stop", "--folder", folder.path().join("pg").to_str().unwrap()]);
        }
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % limit
    }
}

/// Starts one of the servers of a database, with the master key that all of them have.
pub(crate) fn start(folder: &Path, port: u16, url: &str) -> Server {
    let shared = folder.parent().unwrap().join("shared.key");
    if !shared.exists() {
        // The first server of all has made one, or else the first of these.
        let own = folder.join("master.key");
        let key = std::fs::read(own).unwrap_or_else(|_none| made_key());
        std::fs::write(&shared, key).unwrap();
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let environment = [("BERTH_DATABASE_URL", url), ("BERTH_MASTER_KEY_FILE", shared.to_str().unwrap())];
    Server::spawn_with(folder, port, &environment)
}

fn made_key() -> Vec<u8> {
    let mut command = program();
    command.args(["keys", "new"]);
    run(command, "").stdout.into_bytes()
}

async fn client(kubeconfig: PathBuf) -> Client {
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    // What nobody knows the outcome of is not sent again behind the back of whoever writes it down.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// What a watcher or a writer knows of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    kind: &'static str,
    name: String,
    /// Which attempt wrote the content, and on top of which version.
    id: String,
}

/// A write as its client saw it.
#[derive(Debug)]
struct Attempt {
    kind: &'static str,
    name: String,
    id: String,
    on: Option<u64>,
    outcome: Answer,
}

#[derive(Debug)]
enum Answer {
    Done(u64),
    Refused,
    /// The connection broke, or the server said that it does not know.
    Unknown,
}

fn version(object: &ConfigMap) -> u64 {
    object.resource_version().unwrap().parse().unwrap()
}

fn id(object: &ConfigMap) -> String {
    object.data.as_ref().and_then(|data| data.get("id")).cloned().unwrap_or_default()
}

struct World {
    apis: Vec<Api<ConfigMap>>,
    /// The newest version of each object that was acknowledged to anybody; later reads must not be older.
    newest: Mutex<BTreeMap<String, u64>>,
    /// How many writes were acknowledged.
    done: AtomicUsize,
    over: AtomicBool,
}

/// An object as a server has it, and whether the server says that it answers from memory, as the database does not.
async fn read(api: &Api<ConfigMap>, name: &str) -> anyhow::Result<(Option<ConfigMap>, bool)> {
    let request = Request::get(format!("{}/{name}", api.resource_url())).body(Body::empty())?;
    let response = api.clone().into_client().send(request).await?;
    let (status, from_memory) = (response.status().as_u16(), response.headers().contains_key("warning"));
    let body = response.into_body().collect_bytes().await?;
    match status {
        200 => Ok((Some(serde_json::from_slice(&body)?), from_memory)),
        404 => Ok((None, from_memory)),
        _ => anyhow::bail!("{status}"),
    }
}

async fn writer(world: Arc<World>, number: usize, mut random: Random) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for count in 0.. {
        if world.over.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("object-{}", random.below(4));
        let id = format!("{number}-{count}");
        let at_least = world.newest.lock().unwrap().get(&name).copied().unwrap_or(0);
        let api = &world.apis[random.below(world.apis.len())];
        let Ok((present, from_memory)) = read(api, &name).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if let Some(present) = &present
            && !from_memory
        {
            assert!(version(present) >= at_least, "a read is not older than what was acknowledged before it");
        }
        let on = present.as_ref().map(version);
        let api = &world.apis[random.below(world.apis.len())];
        let mut wanted = ConfigMap {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            data: Some([("id".to_owned(), id.clone())].into()),
            ..ConfigMap::default()
        };
        let (kind, result) = match &present {
            None => ("ADDED", api.create(&PostParams::default(), &wanted).await.map(|object| version(&object))),
            Some(present) if random.below(5) == 0 => {
                let preconditions = Preconditions { resource_version: present.resource_version(), uid: None };
                let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                // The version of the deletion is only in the watch.
                ("DELETED", api.delete(&name, &parameters).await.map(|_| 0))
            }
            Some(present) => {
                wanted.metadata.resource_version = present.resource_version();
                ("MODIFIED", api.replace(&name, &PostParams::default(), &wanted).await.map(|object| version(&object)))
            }
        };
        let outcome = match result {
            Ok(version) => {
                let mut newest = world.newest.lock().unwrap();
                let known = newest.entry(name.clone()).or_default();
                *known = version.max(*known);
                world.done.fetch_add(1, Ordering::SeqCst);
                Answer::Done(version)
            }
            Err(kube::Error::Api(status)) if status.code < 500 => Answer::Refused,
            Err(_) => Answer::Unknown,
        };
        let id = if kind == "DELETED" { present.as_ref().map(self::id).unwrap_or_default() } else { id };
        attempts.push(Attempt { kind, name, id, on, outcome });
    }
    attempts
}

async fn watcher(world: Arc<World>, from: u64, mut random: Random, until: Goal) -> BTreeMap<u64, Change> {
    let mut seen: BTreeMap<u64, Change> = BTreeMap::new();
    let mut position = from;
    loop {
        let api = &world.apis[random.below(world.apis.len())];
        let parameters = WatchParams::default().timeout(1 + u32::try_from(random.below(3)).unwrap());
        if let Ok(stream) = api.watch(&parameters, &position.to_string()).await {
            let mut stream = stream.boxed();
            while let Ok(Some(event)) = stream.try_next().await {
                let (kind, object) = match event {
                    WatchEvent::Added(object) => ("ADDED", object),
                    WatchEvent::Modified(object) => ("MODIFIED", object),
                    WatchEvent::Deleted(object) => ("DELETED", object),
                    WatchEvent::Bookmark(bookmark) => {
                        position = position.max(bookmark.metadata.resource_version.parse().unwrap());
                        continue;
                    }
                    WatchEvent::Error(error) => panic!("a gap: {error:?}"),
                };
                let revision = version(&object);
                assert!(revision > position, "{revision} after {position}: a repeat or out of order");
                position = revision;
                seen.insert(revision, Change { kind, name: object.name_any(), id: id(&object) });
            }
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if until.reached(position) {
            return seen;
        }
    }
}

/// Up to where the watchers have to come.
#[derive(Clone)]
struct Goal(Arc<AtomicU64>);

impl Goal {
    fn reached(&self, position: u64) -> bool {
        position >= self.0.load(Ordering::SeqCst)
    }
}

/// Checks that one order of the events, that of their revisions, explains what every writer was told.
fn explain(events: &BTreeMap<u64, Change>, attempts: &[Attempt]) {
    let mut present: BTreeMap<&str, u64> = BTreeMap::new();
    let mut explained: BTreeMap<(&str, &str, Option<u64>), u64> = BTreeMap::new();
    for (revision, change) in events {
        let on = present.get(change.name.as_str()).copied();
        assert_eq!(on.is_none(), change.kind == "ADDED", "{revision}: {change:?} on {on:?}");
        match change.kind {
            "DELETED" => present.remove(change.name.as_str()),
            _ => present.insert(&change.name, *revision),
        };
        let once = explained.insert((change.kind, &change.id, on), *revision);
        assert_eq!(once, None, "{change:?} happened twice");
    }
    // Several may have wanted to delete the same version: whoever was told that it did has done it, and nobody else.
    let (done, others): (Vec<_>, Vec<_>) =
        attempts.iter().partition(|attempt| matches!(attempt.outcome, Answer::Done(_)));
    for Attempt { kind, name, id, on, outcome } in done.into_iter().chain(others) {
        let happened = explained.remove(&(*kind, id.as_str(), *on));
        match (outcome, happened) {
            (Answer::Done(revision), Some(happened)) => {
                assert!(*kind == "DELETED" || *revision == happened, "{kind} {name} {id}: {revision}, not {happened}");
            }
            (Answer::Done(revision), None) => panic!("lost: {kind} {name} {id} at {revision} on {on:?}"),
            (Answer::Refused, Some(happened)) if *kind != "DELETED" => {
                panic!("{kind} {name} {id} was refused, but happened at {happened}")
            }
            (Answer::Refused, Some(happened)) => {
                explained.insert((*kind, id, *on), happened);
            }
            (Answer::Unknown | Answer::Refused, _) => {}
        }
    }
    assert!(explained.is_empty(), "nobody's: {explained:?}");
}

#[test]
fn servers_that_are_killed_lose_nothing_and_repeat_nothing() {
    histories(Kept::Shared);
}

#[test]
fn a_server_that_is_killed_loses_nothing_and_repeats_nothing() {
    histories(Kept::InAFile);
}

#[test]
fn a_database_that_is_killed_with_its_servers_loses_nothing() {
    histories(Kept::SharedAndKilled);
}

fn histories(kept: Kept) {
    let soak = setting("BERTH_SOAK_RUNS");
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    for _ in 0..soak.unwrap_or(1) {
        let seed = setting("BERTH_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        println!("BERTH_SEED={seed}");
        history(seed, kept, if soak.is_some() { SOAK_TIME } else { TIME });
    }
}

fn setting(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "the tests' settings come in through the environment")]
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn history(seed: u64, kept: Kept, time: Duration) {
    let mut random = Random(seed);
    let kept = Place::new(kept);
    let count = kept.servers();
    let folder = tempfile::tempdir().unwrap();
    let place = |number: usize| folder.path().join(number.to_string());
    let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
    let starting = Instant::now();
    let mut servers: Vec<Server> = (0..count).map(|number| kept.start(&place(number), ports[number])).collect();
    for server in &servers {
        server.until_it_is_ready();
    }
    // One that is alone is killed when it has done something, and not while it starts each time.
    let alone = if count == 1 { starting.elapsed() } else { Duration::ZERO };
    let authority = |number: usize| std::fs::read(place(number).join("pki/ca.crt")).unwrap();
    assert!((1..count).all(|number| authority(number) == authority(0)), "all have the same authority");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (world, from, until) = runtime.block_on(async {
        let mut apis = Vec::new();
        for number in 0..count {
            apis.push(Api::<ConfigMap>::namespaced(client(place(number).join("admin.kubeconfig")).await, "default"));
        }
        let from = apis[0].list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        let until = Goal(Arc::new(AtomicU64::new(u64::MAX)));
        let world = World { apis, newest: Mutex::default(), done: AtomicUsize::new(0), over: AtomicBool::new(false) };
        (Arc::new(world), from.parse::<u64>().unwrap(), until)
    });
    let task = |number: usize| Random(seed.wrapping_add(1 + number as u64));
    let writers: Vec<_> =
        (0..WRITERS).map(|number| runtime.spawn(writer(Arc::clone(&world), number, task(number)))).collect();
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|number| runtime.spawn(watcher(Arc::clone(&world), from, task(100 + number), until.clone())))
        .collect();

    let begun = Instant::now();
    let mut kills = 0;
    // However slow the machine is, there is something to explain.
    while begun.elapsed() < time || world.done.load(Ordering::SeqCst) < DONE_MIN {
        assert!(begun.elapsed() < PATIENCE, "they did something");
        std::thread::sleep(alone + Duration::from_millis(200 + random.below(1_000) as u64));
        if random.below(3) == 0 {
            kept.kill();
        }
        let victim = random.below(count);
        servers[victim].signal("-KILL");
        servers[victim].ended();
        servers[victim] = kept.start(&place(victim), ports[victim]);
        kills += 1;
    }
    for number in 0..count {
        wait_for("the server is back", || {
            // One that was starting while the database was away has said so and ended: whoever runs it starts it again.
            if servers[number].has_ended() {
                let complained = servers[number].complaint().is_some();
                assert!(matches!(kept, Place::Cluster { .. }) && complained, "{}", servers[number].log());
                servers[number] = kept.start(&place(number), ports[number]);
            }
            (servers[number].readiness() == "ok").then_some(())
        });
    }
    world.over.store(true, Ordering::SeqCst);
    let (attempts, histories, last) = runtime.block_on(async {
        let mut attempts = Vec::new();
        for writer in writers {
            attempts.extend(tokio::time::timeout(PATIENCE, writer).await.expect("writers end").unwrap());
        }
        let last = world.apis[0].list(&ListParams::default()).await.unwrap();
        let revision: u64 = last.metadata.resource_version.as_ref().unwrap().parse().unwrap();
        // A change after everything else, which all watchers see.
        let mark = ConfigMap {
            metadata: ObjectMeta { name: Some("mark".to_owned()), ..ObjectMeta::default() },
            ..ConfigMap::default()
        };
        let mark = world.apis[count - 1].create(&PostParams::default(), &mark).await.unwrap();
        assert!(version(&mark) > revision);
        until.0.store(version(&mark), Ordering::SeqCst);
        let mut histories = Vec::new();
        for watcher in watchers {
            histories.push(tokio::time::timeout(PATIENCE, watcher).await.expect("watchers see the mark").unwrap());
        }
        (attempts, histories, last)
    });
    let done = attempts.iter().filter(|attempt| matches!(attempt.outcome, Answer::Done(_))).count();
    println!("{kills} kills, {done} of {} writes done, {} events", attempts.len(), histories[0].len());
    assert!(done >= DONE_MIN);
    for other in &histories[1..] {
        assert_eq!(&histories[0], other, "all watchers saw the same");
    }
    let mut events = histories.into_iter().next().unwrap();
    // The server makes some of its own.
    events.retain(|_, change| change.name.starts_with("object-"));
    explain(&events, &attempts);
    let mut state: BTreeMap<String, u64> = BTreeMap::new();
    for (revision, change) in &events {
        match change.kind {
            "DELETED" => state.remove(&change.name),
            _ => state.insert(change.name.clone(), *revision),
        };
    }
    let listed: BTreeMap<String, u64> = last
        .items
        .iter()
        .filter(|object| object.name_any().starts_with("object-"))
        .map(|object| (object.name_any(), version(object)))
        .collect();
    assert_eq!(state, listed, "the events lead to the list");
    for server in &servers {
        let log = server.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn when_the_leader_goes_another_one_leads_and_all_lead_to_it() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let database = Database::new();
    let folder = tempfile::tempdir().unwrap();
    let ports = [free_port(), free_port()];
    let place = |number: usize| folder.path().join(number.to_string());
    let mut servers = [0, 1].map(|number| Some(start(&place(number), ports[number], database.url())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let holder = |number: usize| {
        runtime.block_on(async {
            let leases: Api<Lease> =
                Api::namespaced(client(place(number).join("admin.kubeconfig")).await, "berth-system");
            let lease = leases.get_opt("berth-leader").await.ok()??;
            let holder = lease.spec?.holder_identity.filter(|holder| !holder.is_empty())?;
            ports.iter().position(|port| holder.contains(&format!(":{port}_")))
        })
    };
    for server in servers.iter().flatten() {
        server.until_it_is_ready();
    }
    let leader = wait_for("somebody leads", || holder(0));
    let follower = 1 - leader;
    for server in servers.iter().flatten() {
        // Join tokens are the gateway's, which is the leader's.
        wait_for("the gateway is reached by way of any server", || {
            (server.berth(&["node", "token"], "").code == Some(0)).then_some(())
        });
    }
    who_shows_a_certificate_is_led_on_too(servers[follower].as_ref().unwrap());
    servers[leader].as_mut().unwrap().signal("-TERM");
    assert_eq!(
        servers[leader].as_mut().unwrap().ended().code(),
        Some(0),
        "{}",
        servers[leader].as_ref().unwrap().log()
    );
    assert_ne!(holder(follower), Some(leader), "a leader that ends in order gives the lead up");
    wait_for("the other one leads", || (holder(follower) == Some(follower)).then_some(()));
    servers[leader] = None;
    let left = servers[follower].as_ref().unwrap();
    wait_for("and serves the gateway", || (left.berth(&["node", "token"], "").code == Some(0)).then_some(()));
}

/// Whoever asks a server that does not lead for something of the leader's is the same person there.
fn who_shows_a_certificate_is_led_on_too(follower: &Server) {
    let file = follower.data.join("ann.kubeconfig");
    let (data, file) = (follower.data.to_str().unwrap(), file.to_str().unwrap());
    let made = ["user", "certificate", "ann", "--group", "operators", "--data", data, "--out", file];
    assert_eq!(follower.berth(&made, "").code, Some(0));
    let token = || {
        let mut command = program();
        command.env("KUBECONFIG", file).args(["node", "token"]);
        run(command, "")
    };
    let refused = token();
    assert!(refused.code != Some(0) && refused.stderr.contains("\"ann\""), "{}", refused.stderr);
    let binding = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: operators}\n\
        roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n\
        subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: operators}]\n";
    assert_eq!(follower.berth(&["apply", "-f", "-"], binding).code, Some(0));
    wait_for("her group's right counts at the leader", || (token().code == Some(0)).then_some(()));
}

#[test]
fn everything_moves_to_postgres_and_back() {
    let database = Database::new();
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    let port = free_port();
    let migrate = |from: &str, to: &str| {
        let mut command = program();
        command.args(["store", "migrate", "--from", from, "--to", to]);
        run(command, "")
    };
    let get = |server: &Server| server.berth(&["get", "configmap", "kept", "--output", "json"], "").stdout;
    let sqlite = |folder: &Path| format!("sqlite:{}", folder.join("berth.sqlite").display());
    // What was printed of the table that nobody writes to meanwhile.
    let kept = |outcome: &Outcome| {
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        outcome.stdout.lines().find(|line| line.starts_with("core_secrets:")).expect("a line a table").to_owned()
    };

    let mut server = Server::start(&before, port);
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: Grüße}\n";
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: kept}\nstringData: {a: b}\n";
    assert_eq!(server.berth(&["apply", "-f", "-"], &format!("{config}{secret}")).code, Some(0));
    let written = get(&server);
    assert!(written.contains("Grüße") && written.contains("resourceVersion"), "{written}");
    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(0));
    drop(server);

    kept(&migrate(&sqlite(&before), database.url()));
    let again = migrate(&sqlite(&before), database.url());
    assert!(again.code != Some(0) && again.stderr.contains("not empty"), "{}", again.stderr);
    let authority = std::fs::read(before.join("pki/ca.crt")).unwrap();
    let mut server = start(&before, port, database.url());
    server.until_it_is_ready();
    assert_eq!(get(&server), written, "with uid and resourceVersion");
    // Tables that number their rows go on behind those that were moved.
    let later = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: later}\n";
    let outcome = server.berth(&["apply", "-f", "-"], later);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(std::fs::read(before.join("pki/ca.crt")).unwrap(), authority);
    let in_use = migrate(database.url(), &sqlite(&after));
    assert!(in_use.code != Some(0) && in_use.stderr.contains("using it"), "{}", in_use.stderr);
    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    drop(server);

    kept(&migrate(database.url(), &sqlite(&after)));
    // With the authority and the kubeconfig, as a restored folder has them.
    std::fs::rename(before.join("pki"), after.join("pki")).unwrap();
    std::fs::rename(before.join("admin.kubeconfig"), after.join("admin.kubeconfig")).unwrap();
    std::fs::rename(before.join("master.key"), after.join("master.key")).unwrap();
    let server = Server::start(&after, port);
    assert_eq!(get(&server), written);
}
