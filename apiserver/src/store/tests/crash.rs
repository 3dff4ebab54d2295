//! A process that writes without a pause is killed again and again: what it had answered must be there.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// How often it is killed.
const KILLS: u64 = 12;
/// Names the folder to the child, and the seed to repeat a run with.
const FOLDER: &str = "STORE_CRASH_FOLDER";
const SEED: &str = "STORE_CRASH_SEED";

#[expect(clippy::disallowed_methods, reason = "a child process of this test gets its folder this way")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// The log keeps everything, so that the whole history can be checked at the end.
fn endless() -> Settings {
    let mut settings = settings();
    settings.log = LogLimits {
        changes_max: u64::MAX,
        bytes_max: u64::MAX,
        age_max: Duration::from_secs(1 << 30),
        changes_old_max: u64::MAX,
    };
    settings.ring = RingLimits { events_max: usize::MAX, bytes_max: usize::MAX, ..RingLimits::default() };
    settings
}

async fn open(folder: &Path) -> Store {
    Store::open(Sqlite::open(folder.join("store.sqlite")).await.unwrap(), tables(), endless()).await.unwrap()
}

/// The child: eight clients that create, replace and remove, and say what was acknowledged. Only does something when
/// the test below starts it.
#[test]
#[ignore = "it is the process that the test kills"]
fn child() {
    let Some(folder) = variable(FOLDER).map(PathBuf::from) else { return };
    let seed = variable(SEED).and_then(|text| text.parse().ok()).unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(&folder).await;
        let clients = (0..8_u64).map(|client| {
            let (store, mut random) = (store.clone(), Random(seed + client * 1_000));
            task::spawn("crash-client", async move {
                loop {
                    let kind = KindId(usize::try_from(random.below(2)).unwrap());
                    let key = Key::new(kind, format!("n{}", client % 3), format!("{client}-{}", random.below(20)));
                    let content = "x".repeat(usize::try_from(random.below(3_000)).unwrap());
                    let write = match store.get(&key) {
                        None => create(&key, content),
                        Some(object) if random.below(3) == 0 => remove(&key, object.revision),
                        Some(object) => replace(&key, object.revision, content),
                    };
                    let object = store.write(write).await.unwrap();
                    // One write call, so that lines of two clients do not mix.
                    let line = format!("ack {} {} {key}\n", object.revision, kind.0);
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            })
        });
        futures::future::join_all(clients.collect::<Vec<_>>()).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let seed = variable(SEED).and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 1);
    println!("{SEED}={seed}");
    let mut random = Random(seed);
    let mut acknowledged: BTreeMap<u64, String> = BTreeMap::new();
    for round in 0..KILLS {
        let lines = run_and_kill(folder.path(), seed.wrapping_add(round), Duration::from_micros(random.below(150_000)));
        let before = acknowledged.len();
        for line in lines {
            // The last line may have been cut off by the kill.
            let mut words = line.splitn(3, ' ').skip(1);
            let (Some(revision), Some(key)) = (words.next(), words.next()) else { continue };
            let twice = acknowledged.insert(revision.parse().unwrap(), key.to_owned());
            assert_eq!(twice, None, "a revision is given once, also after a kill");
        }
        assert!(acknowledged.len() > before, "the child did something before it was killed");

        let store = open(folder.path()).await;
        let mut events = Vec::new();
        for kind in [THINGS, EVENTS] {
            let mut watch = store.watch_across_namespaces(kind, 0).unwrap();
            let mut of_kind = Vec::new();
            loop {
                let more = watch.ready().unwrap();
                if more.is_empty() {
                    break;
                }
                of_kind.extend(more);
            }
            assert_eq!(replay(&of_kind), contents(&store.snapshot_across_namespaces(kind)), "replay is the state");
            events.extend(of_kind);
        }
        let history: BTreeMap<u64, String> = events
            .iter()
            .map(|event| (event.revision, format!("{} {}", event.kind.0, event.object.key(event.kind))))
            .collect();
        assert!(history.keys().copied().eq(1..=store.revision()), "revisions are dense");
        for (revision, key) in &acknowledged {
            assert_eq!(history.get(revision), Some(key), "what was acknowledged is there");
        }
        store.close().await.unwrap();
    }
}

/// Lets the child write for `time` after its first answer, kills it, and returns all it said.
fn run_and_kill(folder: &Path, seed: u64, time: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["store::tests::crash::child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = Vec::new();
    let mut line = String::new();
    // What the test runner prints comes first, on a line that the first answer may share.
    while lines.is_empty() {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child ended by itself");
        lines.extend(acknowledgement(&line));
    }
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            lines.extend(acknowledgement(&line));
            line.clear();
        }
        lines
    });
    std::thread::sleep(time);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn acknowledgement(line: &str) -> Option<String> {
    let line = line.strip_suffix('\n')?;
    line.find("ack ").and_then(|at| line.get(at..)).map(str::to_owned)
}
