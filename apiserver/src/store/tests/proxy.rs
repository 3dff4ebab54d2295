//! A way to the test's PostgreSQL that can be cut, and that can lose what passes at the worst moment.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::cluster::Database;
use crate::task;

/// What happens to the next thing that is sent to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It passes, and its answer too.
    Passes = 0,
    /// The database gets it and acts on it, but the connection ends before the answer arrives.
    AnswerLost = 1,
    /// The connection ends before the database gets it.
    RequestLost = 2,
    /// All connections end, and no new one is taken until another fate is chosen.
    Away = 3,
    /// Answers do not arrive any more, and nothing ends: a network that drops what passes.
    Silent = 4,
    /// The same for connections that wait for hints, and only for those.
    Deaf = 5,
}

pub(super) struct Proxy {
    folder: tempfile::TempDir,
    state: Arc<State>,
    stop: CancellationToken,
}

struct State {
    fate: AtomicU8,
    /// Cancelled and replaced to end all connections.
    ends: std::sync::Mutex<CancellationToken>,
}

impl State {
    fn fate(&self) -> u8 {
        self.fate.load(Ordering::SeqCst)
    }

    /// Takes the fate that is meant for one message, if the message is one that `commits`.
    fn take(&self) -> u8 {
        let fate = self.fate();
        if matches!(fate, 1 | 2) { self.fate.swap(0, Ordering::SeqCst) } else { fate }
    }
}

impl Proxy {
    pub(super) fn new(database: &Database) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let target = PathBuf::from(database.socket_folder()).join(".s.PGSQL.5432");
        let state = Arc::new(State { fate: AtomicU8::new(0), ends: std::sync::Mutex::default() });
        let stop = CancellationToken::new();
        let (shared, until) = (Arc::clone(&state), stop.clone());
        task::spawn("proxy", async move {
            while let Some(Ok((client, _))) = until.run_until_cancelled(listener.accept()).await {
                if shared.fate() == Fate::Away as u8 {
                    continue;
                }
                let server = UnixStream::connect(&target).await.unwrap();
                let end = shared.ends.lock().unwrap().clone();
                let (state, until) = (Arc::clone(&shared), until.clone());
                task::spawn("proxied", async move {
                    tokio::select! {
                        () = pass(&state, client, server) => {}
                        () = end.cancelled() => {}
                        () = until.cancelled() => {}
                    }
                });
            }
        });
        Self { folder, state, stop }
    }

    /// The database's address by this way.
    pub(super) fn url(&self, database: &Database) -> String {
        let url = database.url();
        let (start, _) = url.split_once("?host=").unwrap();
        format!("{start}?host={}", self.folder.path().display())
    }

    pub(super) fn set(&self, fate: Fate) {
        self.state.fate.store(fate as u8, Ordering::SeqCst);
        if fate == Fate::Away {
            std::mem::take(&mut *self.state.ends.lock().unwrap()).cancel();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a session is doing.
#[derive(Default)]
struct Session {
    in_transaction: bool,
}

impl Session {
    /// Whether these bytes would make a write durable: only those may be lost with consequences.
    fn commits(&mut self, bytes: &[u8]) -> bool {
        let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        self.in_transaction |= has(b"BEGIN");
        let ended = self.in_transaction && (has(b"COMMIT") || has(b"ROLLBACK"));
        self.in_transaction &= !ended;
        // The end of a transaction, or the execution of a statement that is one: its parameters carry an object.
        if ended { has(b"COMMIT") } else { !self.in_transaction && has(b"resourceVersion") }
    }
}

async fn pass(state: &State, client: UnixStream, server: UnixStream) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Whether the next answer is the one that is lost: the connection ends when it comes, and so after the deed.
    let lost = AtomicBool::new(false);
    let listens = AtomicBool::new(false);
    let up = async {
        let mut buffer = vec![0; 1 << 16];
        let mut session = Session::default();
        loop {
            let count = from_client.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                return false;
            }
            listens.fetch_or(buffer[..count].windows(6).any(|window| window == b"LISTEN"), Ordering::SeqCst);
            let fate = if session.commits(&buffer[..count]) { state.take() } else { 0 };
            if fate == Fate::RequestLost as u8 {
                return false;
            }
            lost.fetch_or(fate == Fate::AnswerLost as u8, Ordering::SeqCst);
            if to_server.write_all(&buffer[..count]).await.is_err() {
                return false;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = from_server.read(&mut buffer).await.unwrap_or(0);
            let deaf = state.fate() == Fate::Deaf as u8 && listens.load(Ordering::SeqCst);
            if deaf || state.fate() == Fate::Silent as u8 {
                std::future::pending::<()>().await;
            }
            if count == 0 || lost.load(Ordering::SeqCst) || to_client.write_all(&buffer[..count]).await.is_err() {
                return false;
            }
        }
    };
    tokio::select! {
        _lost = up => {}
        _ended = down => {}
    }
}
