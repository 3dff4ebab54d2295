//! An agent for tests, on real Docker, with a router in memory and no builds.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node_agent::Options;
use node_agent::machine::{Builder, Live, LogSink, Router, RouterError, Routes};
use node_protocol::{
    BuildObservation, BuildTask, EnvValue, HealthProbe, InstanceTask, Item, PartState, RouteTask, RunState,
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;

/// Docker for tests; without one they fail, for a skipped test is no test.
pub(crate) fn docker_host() -> String {
    #[expect(clippy::disallowed_methods, reason = "a test has no command line")]
    std::env::var("BERTH_DOCKER_HOST").expect("BERTH_DOCKER_HOST names a Docker for tests: scripts/dockerd ensure")
}

/// Runs the docker command line and gives what it prints.
pub(crate) fn docker(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").arg("--host").arg(docker_host()).args(arguments).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// What was made live, in order.
#[derive(Clone, Default)]
pub(crate) struct Table(Arc<Mutex<Vec<Routes>>>);

impl Table {
    pub(crate) fn all(&self) -> Vec<Routes> {
        self.0.lock().unwrap().clone()
    }
}

impl Router for Table {
    async fn apply(&self, routes: &Routes) -> Result<Live, RouterError> {
        self.0.lock().unwrap().push(routes.clone());
        Ok(Live::default())
    }

    async fn version(&self) -> Option<String> {
        None
    }

    async fn state(&self) -> PartState {
        PartState { healthy: true, message: String::new() }
    }
}

/// Builds nothing.
pub(crate) struct NoBuilds;

impl Builder for NoBuilds {
    fn run(&self, _: &BuildTask, _: LogSink) {}

    fn forget(&self, _: &str) {}

    fn observe(&self) -> Vec<BuildObservation> {
        Vec::new()
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}

/// A node: its gateway, its data folder, and an agent while it runs.
pub(crate) struct Node {
    pub(crate) gateway: Gateway,
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) table: Table,
    firewall: bool,
    folder: TempDir,
    agent: Option<(JoinSet<anyhow::Result<()>>, CancellationToken)>,
}

impl Node {
    /// A node with an agent that has been started.
    pub(crate) async fn start() -> Self {
        Self::start_with(false).await
    }

    /// The same, with or without the firewall.
    pub(crate) async fn start_with(firewall: bool) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let unique = format!("{:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let uid = format!("node-{}", uuid::Uuid::new_v4());
        let mut node = Self {
            gateway: Gateway::start(&uid).await,
            uid,
            namespace: format!("it-{unique}"),
            table: Table::default(),
            firewall,
            folder: tempfile::tempdir().unwrap(),
            agent: None,
        };
        std::fs::write(node.folder.path().join("token"), &node.gateway.token).unwrap();
        node.start_agent();
        node
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            server_url: format!("https://{}", self.gateway.address).parse().unwrap(),
            token_file: self.folder.path().join("token"),
            data_dir: self.folder.path().join("agent"),
            docker_host: docker_host(),
            http_port: 80,
            https_port: 443,
            node_name: "test-node".to_owned(),
            extra_ca_file: None,
            source_networks: Vec::new(),
            firewall: self.firewall,
        }
    }

    pub(crate) fn start_agent(&mut self) {
        let shutdown = CancellationToken::new();
        let mut task = JoinSet::new();
        let table = self.table.clone();
        let agent = node_agent::run_with(self.options(), |_, _| Ok((table, NoBuilds)), shutdown.clone());
        task.spawn(agent);
        self.agent = Some((task, shutdown));
    }

    /// Ends the agent in the middle of whatever it does.
    pub(crate) async fn kill_agent(&mut self) {
        if let Some((mut task, _)) = self.agent.take() {
            task.abort_all();
            while task.join_next().await.is_some() {}
        }
    }

    /// Asks the agent to end.
    pub(crate) async fn stop_agent(&mut self) -> anyhow::Result<()> {
        let (mut task, shutdown) = self.agent.take().unwrap();
        shutdown.cancel();
        task.join_next().await.unwrap().unwrap()
    }

    /// An instance that says hello.
    pub(crate) fn instance(&self, name: &str) -> InstanceTask {
        InstanceTask {
            uid: format!("{}-{name}", self.namespace),
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            application: "hello".to_owned(),
            application_uid: format!("{}-app", self.namespace),
            release: "hello-1".to_owned(),
            state: RunState::Run,
            image: "berth/hello:1".to_owned(),
            digest: None,
            command: None,
            port: None,
            env: vec![EnvValue { name: "MESSAGE".to_owned(), value: format!("I am {name}") }],
            cpu_millis: 200,
            memory_bytes: 32 << 20,
            disk_bytes: 0,
            health: HealthProbe {
                path: Some("/".to_owned()),
                interval_milliseconds: 500,
                timeout_milliseconds: 1000,
                failures: 3,
                grace_milliseconds: 10_000,
            },
            drain_milliseconds: 1500,
            keep: false,
        }
    }

    /// An instance of Debian that runs a command.
    pub(crate) fn debian(&self, name: &str, command: &[&str]) -> InstanceTask {
        InstanceTask {
            image: "berth/debian:12".to_owned(),
            command: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            ..self.instance(name)
        }
    }

    /// The route of the application of these instances.
    pub(crate) fn route(&self) -> Item {
        Item::Route(RouteTask {
            application_uid: format!("{}-app", self.namespace),
            namespace: self.namespace.clone(),
            application: "hello".to_owned(),
            hosts: vec!["hello.example.com".to_owned()],
        })
    }

    /// Ids of this node's containers as Docker lists them, running or not.
    pub(crate) fn containers(&self) -> Vec<String> {
        let filter = format!("label=dev.berth.node={}", self.uid);
        let text = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Names of this node's networks.
    pub(crate) fn networks(&self) -> Vec<String> {
        let filter = format!("label=dev.berth.node={}", self.uid);
        docker(&["network", "ls", "--format", "{{.Name}}", "--filter", &filter])
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Takes everything away, through the agent, and sees that it is gone.
    pub(crate) async fn clear(&mut self, tasks: &[InstanceTask]) {
        let items: Vec<Item> =
            tasks.iter().map(|task| Item::Instance(InstanceTask { state: RunState::Stop, ..task.clone() })).collect();
        self.gateway.assign(&items);
        let stopped = |heard: &crate::gateway::Heard| {
            tasks.iter().all(|task| {
                heard.instances.get(&task.uid).is_some_and(|one| one.phase == crds::instance::InstancePhase::Stopped)
            })
        };
        self.gateway.until("all is stopped", stopped).await;
        self.gateway.assign(&[]);
        eventually("nothing is left over", || self.containers().is_empty() && self.networks().is_empty()).await;
    }
}

impl Drop for Node {
    /// What a failed test leaves behind would disturb the next one.
    fn drop(&mut self) {
        // First the agent, or it would make again what is removed.
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(self.kill_agent()));
        for container in self.containers() {
            drop(docker(&["rm", "--force", &container]));
        }
        for network in self.networks() {
            drop(docker(&["network", "rm", &network]));
        }
    }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, so: impl Fn() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_mins(1);
    while !so() {
        assert!(tokio::time::Instant::now() < limit, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks an address for `/`.
pub(crate) async fn get(address: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().unwrap();
    client.get(format!("http://{address}/")).send().await.unwrap().text().await.unwrap()
}
