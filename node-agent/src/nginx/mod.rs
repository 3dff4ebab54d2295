//! Leads requests to instances, through an Nginx of the agent's own. Read this first.
//!
//! Nginx gets one small configuration in which no application stands, and a table of hosts and instances in memory that
//! its workers share. A changed table is live in every worker when Nginx has answered the agent's request for it: no
//! reload, no closed connection. The table is kept in a file too, from which an Nginx that starts anew reads it.

mod admin;
mod files;
mod process;
mod render;
mod syntax;
mod table;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use node_protocol::PartState;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::machine::{Live, Router, RouterError, Routes};
use admin::{AdminError, Change, Status};
use files::Files;
use process::{Facts, Program};
use render::{Rendered, Settings};
use table::Table;

pub use process::find_binary;

/// How long a started or reloaded Nginx may take to answer with its new configuration: it forks a few workers.
const TURNOVER: Duration = Duration::from_secs(15);
/// Time between two looks while waiting for Nginx. A reload takes about 20 ms.
const LOOK: Duration = Duration::from_millis(5);
/// Time between two looks whether Nginx is there: two reads of `/proc`, so often enough that nobody notices a crash.
const WATCH: Duration = Duration::from_millis(500);

/// The agent's own Nginx. Dropping it leaves Nginx serving; the next one takes it over.
pub struct NginxRouter {
    inner: Arc<Inner>,
    // Ends with the router: aborted when it is dropped.
    _watch: JoinSet<()>,
}

struct Inner {
    program: Program,
    files: Files,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    facts: Option<Facts>,
    /// The configuration that should run; none before the first routes.
    wanted: Option<Rendered>,
    /// The table that is live, if this process made it so.
    live: Option<(u64, Table)>,
}

impl NginxRouter {
    /// A router whose files are below `folder`. Must be called inside a Tokio runtime. Starts nothing yet.
    pub fn new(binary: PathBuf, folder: PathBuf) -> Self {
        let files = Files::new(folder.clone());
        let inner = Arc::new(Inner { program: Program { binary, prefix: folder }, files, state: Mutex::default() });
        let mut watch = JoinSet::new();
        watch.spawn(watch_over(Arc::downgrade(&inner)));
        Self { inner, _watch: watch }
    }

    /// Ends Nginx when the requests that it has are answered, and those that take too long with it.
    pub async fn stop(&self) {
        let mut state = self.inner.state.lock().await;
        *state = State { facts: state.facts.take(), ..State::default() };
        for patiently in [true, false] {
            self.inner.program.end(patiently);
            let deadline = Instant::now() + TURNOVER;
            while self.inner.program.master().is_some() && Instant::now() < deadline {
                sleep(LOOK).await;
            }
        }
    }
}

impl Router for NginxRouter {
    async fn apply(&self, routes: &Routes) -> Result<Live, RouterError> {
        let mut state = self.inner.state.lock().await;
        let (table, failed) = Table::of(&routes.sites);
        self.inner.apply(&mut state, routes.http_port, table).await.map_err(RouterError)?;
        Ok(Live { failed })
    }

    async fn version(&self) -> Option<String> {
        let mut state = self.inner.state.lock().await;
        self.inner.facts(&mut state).await.ok().map(|facts| facts.version)
    }

    async fn state(&self) -> PartState {
        let state = self.inner.state.lock().await;
        let message = match (&state.wanted, admin::status(&self.inner.files.socket()).await) {
            (None, _) => return PartState { healthy: true, message: "nothing is routed yet".to_owned() },
            (Some(_), Err(problem)) => problem.to_string(),
            (Some(wanted), Ok(status)) if status.config != wanted.name => "an older configuration is live".to_owned(),
            (Some(_), Ok(_)) if self.inner.program.master().is_none() => "the master process is gone".to_owned(),
            (Some(_), Ok(_)) => return PartState { healthy: true, message: String::new() },
        };
        PartState { healthy: false, message }
    }
}

impl Inner {
    async fn facts(&self, state: &mut State) -> Result<Facts, String> {
        if state.facts.is_none() {
            state.facts = Some(self.program.facts().await?);
        }
        Ok(state.facts.clone().unwrap_or_default())
    }

    async fn apply(&self, state: &mut State, http_port: u16, table: Table) -> Result<(), String> {
        let facts = self.facts(state).await?;
        let rendered = render::render(&settings(&facts, &self.files, http_port)?).map_err(|e| e.to_string())?;
        let conf = self.files.write_configuration(&rendered).map_err(|e| format!("the Nginx folder: {e}"))?;
        if state.wanted.as_ref() != Some(&rendered) {
            // What fails the test never becomes the live configuration.
            self.program.test(&conf).await?;
        }
        if self.program.master().is_none() {
            // A table from before a reboot names addresses that may be other applications' by now.
            self.files.write_table(1, &table.lines()).map_err(|e| format!("the table of routes: {e}"))?;
        }
        let status = self.run(&rendered).await?;
        state.wanted = Some(rendered);
        self.make_live(state, &status, table).await
    }

    /// Sees to it that Nginx runs with a configuration, and says what it serves.
    async fn run(&self, rendered: &Rendered) -> Result<Status, String> {
        let before = match (self.program.master(), admin::status(&self.files.socket()).await) {
            (Some(_), Ok(status)) if status.config == rendered.name => return Ok(status),
            (Some(_), _) => self.files.swap(&rendered.name).map_err(|e| e.to_string())?,
            (None, _) => {
                self.clear_the_way().await;
                let before = self.files.swap(&rendered.name).map_err(|e| e.to_string())?;
                self.program.start(&self.files.live_conf()).await?;
                tracing::info!(config = rendered.name, "Nginx is started");
                before
            }
        };
        let mut served = self.confirm(rendered, Duration::ZERO).await;
        if served.is_none() {
            self.program.reload();
            served = self.confirm(rendered, TURNOVER).await;
        }
        let Some(status) = served else {
            if let Some(before) = before {
                self.files.swap(&before).map_err(|e| e.to_string())?;
            }
            return Err(format!("Nginx does not serve its new configuration: {}", self.files.last_errors()));
        };
        self.files.remove_old_configurations(&rendered.name, before.as_deref());
        Ok(status)
    }

    /// Waits until new connections meet a configuration.
    async fn confirm(&self, rendered: &Rendered, patience: Duration) -> Option<Status> {
        let deadline = Instant::now() + patience;
        loop {
            match admin::status(&self.files.socket()).await {
                Ok(status) if status.config == rendered.name => return Some(status),
                _ if Instant::now() >= deadline => return None,
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Ends what a killed master process left: workers that hold the ports, and a socket that nobody listens on.
    async fn clear_the_way(&self) {
        if self.program.end_orphans() {
            let deadline = Instant::now() + TURNOVER;
            while Instant::now() < deadline {
                match admin::status(&self.files.socket()).await {
                    Err(AdminError::Silent(_)) => break,
                    _ => sleep(LOOK).await,
                }
            }
        }
        self.files.remove_socket();
    }

    async fn make_live(&self, state: &mut State, status: &Status, table: Table) -> Result<(), String> {
        let base = state.live.take().filter(|(generation, _)| status.generation == Some(*generation));
        if let Some((generation, live)) = &base
            && *live == table
        {
            state.live = Some((*generation, table));
            return Ok(());
        }
        let generation = status.generation.unwrap_or(0).max(base.as_ref().map_or(0, |(generation, _)| *generation)) + 1;
        // First the file: an Nginx that starts between the two reads the new table, never an older one.
        let lines = table.lines();
        self.files.write_table(generation, &lines).map_err(|e| format!("the table of routes: {e}"))?;
        let socket = self.files.socket();
        let change = match &base {
            Some((before, live)) => Change::From(*before, table.since(live)),
            None => Change::Whole(lines),
        };
        admin::change(&socket, change, generation).await.map_err(|e| e.to_string())?;
        state.live = Some((generation, table));
        Ok(())
    }

    /// Starts Nginx again if it was killed, and keeps its logs small.
    async fn look_after(&self) {
        let state = self.state.lock().await;
        let Some(wanted) = &state.wanted else { return };
        if self.program.master().is_none()
            && let Err(problem) = self.run(wanted).await
        {
            tracing::error!(problem, "Nginx is gone and could not be started");
        }
        self.files.shorten_logs();
    }
}

async fn watch_over(router: Weak<Inner>) {
    loop {
        sleep(WATCH).await;
        match router.upgrade() {
            Some(router) => router.look_after().await,
            None => return,
        }
    }
}

fn settings(facts: &Facts, files: &Files, http_port: u16) -> Result<Settings, String> {
    let modules = match &facts.modules_path {
        Some(folder) => {
            let module = |name: &str| Path::new(folder).join(name).display().to_string();
            let lua = module("ngx_http_lua_module.so");
            if !Path::new(&lua).is_file() {
                return Err("Nginx has no Lua module here: install libnginx-mod-http-lua".to_owned());
            }
            vec![module("ndk_http_module.so"), lua]
        }
        // An Nginx that loads no modules has them built in, as OpenResty has.
        None => Vec::new(),
    };
    let ipv6 = std::fs::read("/proc/net/if_inet6").is_ok_and(|interfaces| !interfaces.is_empty());
    Ok(Settings { http_port, ipv6, user: files::worker_user(), modules, prefix: files.prefix()? })
}
