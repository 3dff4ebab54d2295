//! A machine that is Docker: the only file, with its folder, that knows bollard.
//!
//! Here are the connection, what instances need, and the hardening that every container gets. `docker/workshop.rs` is
//! what builds need, `docker/convert.rs` reads Docker's answers.

mod convert;
mod pulls;
mod workshop;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, EndpointSettings, ExecConfig, HealthConfig, HostConfig, HostConfigLogConfig, Ipam, IpamConfig,
    NetworkCreateRequest, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, EventsOptions, InspectContainerOptions, ListContainersOptions,
    ListImagesOptions, ListNetworksOptions, LogsOptions, RemoveContainerOptions, RemoveImageOptions,
    StartContainerOptions, StatsOptions, StopContainerOptions,
};
use futures::{StreamExt, TryStreamExt};
use node_protocol::UsageSample;

use crate::clock;
use crate::labels;
use crate::machine::{
    Container, ContainerSpec, ContainerState, Containers, Engine, EngineEvent, Error, EventStream, ExecSpec, Image,
    LogQuery, Network, NetworkSpec, OutputStream, Process,
};

/// How long an ordinary request may take, in seconds: more than a stop with its patience, on a busy disk.
const REQUEST_SECONDS: u64 = 120;
/// How long a request may take until its answer begins where that waits for a whole build, in seconds: above the
/// longest build.
const BUILD_SECONDS: u64 = 3600;
/// How many containers are inspected at a time: Docker answers them one after another anyway.
const INSPECTIONS: usize = 8;
/// Processes in a container: as `security.md`, against fork bombs.
const PIDS: i64 = 256;
/// What is read at a time of a program's output.
const EXEC_BUFFER_BYTES: usize = 32 << 10;
/// Size of `/tmp` in memory where the root is read-only.
const TMP_OPTIONS: &str = "rw,nosuid,nodev,size=64m,mode=1777";

/// Docker, as one node of Berth uses it.
pub struct Docker {
    api: bollard::Docker,
    slow: bollard::Docker,
    node: String,
    /// Whether containers get a small first process that passes signals on and buries the dead: not every Docker
    /// installation has it.
    init: AtomicBool,
    /// Docker before API 1.44 makes two networks of one name if asked twice at a time.
    making_network: tokio::sync::Mutex<()>,
    /// Processor time and when it was read, by container.
    processor: Mutex<BTreeMap<String, (u64, tokio::time::Instant)>>,
    pulls: pulls::Pulls,
    /// Where Docker keeps images, once it has said.
    data_root: tokio::sync::OnceCell<PathBuf>,
}

impl Docker {
    /// Opens Docker at `unix:///path` or `tcp://host:port`, for the node of this uid. Does not wait for it to answer.
    pub fn new(host: &str, node: &str) -> Result<Self, Error> {
        let connect = |seconds| {
            bollard::Docker::connect_with_host(host)
                .map(|api| api.with_timeout(Duration::from_secs(seconds)))
                .map_err(|error| Error::Refused(format!("cannot use {host:?} as Docker's address: {error}")))
        };
        Ok(Self {
            api: connect(REQUEST_SECONDS)?,
            slow: connect(BUILD_SECONDS)?,
            node: node.to_owned(),
            init: AtomicBool::new(true),
            making_network: tokio::sync::Mutex::new(()),
            processor: Mutex::default(),
            pulls: pulls::Pulls::default(),
            data_root: tokio::sync::OnceCell::new(),
        })
    }

    /// Remembers in a file which images it has fetched, so that they can be removed when nothing needs them.
    pub fn remembering(self, file: PathBuf) -> std::io::Result<Self> {
        Ok(Self { pulls: pulls::Pulls::open(file)?, ..self })
    }

    /// Removes the helper containers that an earlier process left behind: nobody waits for them any more.
    pub async fn remove_helpers(&self) -> Result<(), Error> {
        let mut filters = self.filter();
        if let Some(wanted) = filters.get_mut("label") {
            wanted.push(labels::HELPER.to_owned());
        }
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        for left in self.api.list_containers(Some(options)).await.map_err(failure)? {
            self.remove_container(left.id.as_deref().unwrap_or_default()).await?;
        }
        Ok(())
    }

    fn node_label(&self) -> String {
        format!("{}={}", labels::NODE, self.node)
    }

    fn filter(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![self.node_label()])])
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>, Error> {
        match self.api.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(answer) => {
                Ok(convert::container(answer)
                    .filter(|container| container.labels.get(labels::NODE) == Some(&self.node)))
            }
            Err(error) => absent(error),
        }
    }

    async fn inspect_image(&self, reference: &str) -> Result<Option<Image>, Error> {
        match self.api.inspect_image(reference).await {
            Ok(answer) => {
                self.pulls.used(reference, clock::now());
                Ok(Some(convert::image(answer)))
            }
            Err(error) => absent(error),
        }
    }

    async fn pull_image(&self, reference: &str) -> Result<(), Error> {
        let options =
            CreateImageOptions { from_image: Some(convert::with_tag(reference)), ..CreateImageOptions::default() };
        let mut progress = self.slow.create_image(Some(options), None, None);
        while let Some(step) = progress.try_next().await.map_err(failure)? {
            if let Some(error) = step.error_detail {
                return Err(Error::Refused(error.message.unwrap_or_default()));
            }
        }
        self.pulls.fetched(reference, clock::now());
        Ok(())
    }

    async fn untag(&self, reference: &str) -> Result<(), Error> {
        let options = RemoveImageOptions { force: false, ..RemoveImageOptions::default() };
        gone(self.api.remove_image(reference, Some(options), None).await.map(|_| ()))
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        match gone(self.api.remove_container(id, Some(options)).await) {
            // Somebody is removing it already.
            Err(Error::Conflict(_)) => Ok(()),
            other => other,
        }
    }

    /// Makes a network unless it is there; tries subnets of its own when Docker has none left.
    async fn network(&self, spec: &NetworkSpec) -> Result<(), Error> {
        let _one_at_a_time = self.making_network.lock().await;
        match self.api.inspect_network(&spec.name, None).await {
            Ok(found) => {
                let ours = found.labels.unwrap_or_default().get(labels::NODE) == Some(&self.node);
                return if ours {
                    Ok(())
                } else {
                    Err(Error::Conflict(format!("there is a network {} that is not this node's", spec.name)))
                };
            }
            Err(error) => {
                absent::<()>(error)?;
            }
        }
        let mut result = self.api.create_network(self.network_request(spec, None)).await.map_err(failure);
        // 32 tries: a random one of 1024 subnets is free unless nearly all are taken.
        for attempt in 0..32_u32 {
            match &result {
                Err(Error::Refused(message)) if message.contains("address pool") || message.contains("overlap") => {}
                _ => break,
            }
            let subnet = convert::own_subnet(&spec.name, attempt);
            result = self.api.create_network(self.network_request(spec, Some(subnet))).await.map_err(failure);
        }
        match result {
            Ok(_) => Ok(()),
            Err(Error::Conflict(message)) if message.contains("already exists") => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn network_request(&self, spec: &NetworkSpec, subnet: Option<String>) -> NetworkCreateRequest {
        let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
        labels.insert(labels::NODE.to_owned(), self.node.clone());
        let options = [
            ("com.docker.network.bridge.name", spec.bridge.as_str()),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
        ];
        NetworkCreateRequest {
            name: spec.name.clone(),
            driver: Some("bridge".to_owned()),
            enable_ipv6: Some(false),
            labels: Some(labels),
            options: Some(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()),
            ipam: subnet.map(|subnet| Ipam {
                config: Some(vec![IpamConfig { subnet: Some(subnet), ..IpamConfig::default() }]),
                ..Ipam::default()
            }),
            ..NetworkCreateRequest::default()
        }
    }
}

/// What every container gets, an instance's and a helper's alike: CIS Docker benchmark, section 5.
fn hardened(network: &str, cpu_millis: u64, memory_bytes: u64, pids: i64) -> HostConfig {
    let memory = i64::try_from(memory_bytes).unwrap_or(i64::MAX);
    HostConfig {
        memory: Some(memory),
        // As much as the memory itself: no swap.
        memory_swap: Some(memory),
        nano_cpus: Some(i64::try_from(cpu_millis.saturating_mul(1_000_000)).unwrap_or(i64::MAX)),
        pids_limit: Some(pids),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        network_mode: Some(network.to_owned()),
        publish_all_ports: Some(false),
        ipc_mode: Some("private".to_owned()),
        // The agent restarts: it must count, wait, and stop at some time.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        ..HostConfig::default()
    }
}

/// A log of at most 30 MB a container.
fn rotated_log() -> HostConfigLogConfig {
    let config = HashMap::from([("max-size".to_owned(), "10m".to_owned()), ("max-file".to_owned(), "3".to_owned())]);
    HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(config) }
}

fn environment(env: &[(String, String)]) -> Vec<String> {
    env.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// An image's own health check is switched off: the agent probes from outside, with no process in the container.
fn no_health_check() -> HealthConfig {
    HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }
}

impl Containers for Docker {
    async fn engine(&self) -> Result<Engine, Error> {
        let info = self.api.info().await.map_err(failure)?;
        Ok(Engine {
            version: info.server_version.unwrap_or_default(),
            data_root: info.docker_root_dir.unwrap_or_default(),
        })
    }

    fn events(&self) -> EventStream {
        let mut filters = self.filter();
        filters.insert("type".to_owned(), vec!["container".to_owned(), "network".to_owned()]);
        let events = self.api.events(Some(EventsOptions { filters: Some(filters), ..EventsOptions::default() }));
        Box::pin(events.map_err(failure).map_ok(|event| EngineEvent {
            container: event.actor.and_then(|actor| actor.id),
            action: event.action.unwrap_or_default(),
        }))
    }

    async fn containers(&self) -> Result<Vec<Container>, Error> {
        let options =
            ListContainersOptions { all: true, filters: Some(self.filter()), ..ListContainersOptions::default() };
        let listed = self.api.list_containers(Some(options)).await.map_err(failure)?;
        let ids = listed.into_iter().filter_map(|container| container.id);
        let inspected: Vec<Option<Container>> = futures::stream::iter(ids)
            .map(|id| async move { self.inspect(&id).await })
            .buffered(INSPECTIONS)
            .try_collect()
            .await?;
        Ok(inspected.into_iter().flatten().collect())
    }

    async fn container(&self, id: &str) -> Result<Option<Container>, Error> {
        self.inspect(id).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, Error> {
        let mut host = hardened(&spec.network, spec.cpu_millis, spec.memory_bytes, PIDS);
        host.log_config = Some(rotated_log());
        host.init = Some(self.init.load(Ordering::Relaxed));
        if spec.read_only {
            host.readonly_rootfs = Some(true);
        }
        host.tmpfs = Some(HashMap::from([("/tmp".to_owned(), TMP_OPTIONS.to_owned())]));
        let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
        labels.insert(labels::NODE.to_owned(), self.node.clone());
        let endpoint = EndpointSettings { aliases: Some(spec.aliases.clone()), ..EndpointSettings::default() };
        let body = ContainerCreateBody {
            hostname: Some(spec.name.clone()),
            image: Some(spec.image.clone()),
            // Given as the entry point, so that nothing of the image's own command is added.
            entrypoint: spec.command.clone(),
            env: Some(environment(&spec.env)),
            labels: Some(labels),
            healthcheck: Some(no_health_check()),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(spec.network.clone(), endpoint)])),
            }),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptions { name: Some(spec.name.clone()), ..CreateContainerOptions::default() };
        match self.api.create_container(Some(options), body).await.map_err(failure) {
            Ok(made) => Ok(made.id),
            Err(Error::Conflict(message)) => match self.inspect(&spec.name).await? {
                Some(ours) if ours.labels.get(labels::UID) == spec.labels.get(labels::UID) => Ok(ours.id),
                _ => Err(Error::Conflict(message)),
            },
            Err(error) => Err(error),
        }
    }

    async fn start(&self, id: &str) -> Result<(), Error> {
        match self.api.start_container(id, None::<StartContainerOptions>).await.map_err(failure) {
            Err(Error::Refused(message)) if message.contains("docker-init") => {
                // Docker's small first process is not installed: do without, with a container made anew.
                self.init.store(false, Ordering::Relaxed);
                self.remove_container(id).await?;
                Err(Error::NotFound(message))
            }
            other => other,
        }
    }

    async fn stop(&self, id: &str, patience: Duration) -> Result<(), Error> {
        let seconds = i32::try_from(patience.as_secs()).unwrap_or(i32::MAX);
        gone(self.api.stop_container(id, Some(StopContainerOptions { t: Some(seconds), signal: None })).await)
    }

    async fn remove(&self, id: &str) -> Result<(), Error> {
        if let Ok(mut processor) = self.processor.lock() {
            processor.remove(id);
        }
        self.remove_container(id).await
    }

    async fn networks(&self) -> Result<Vec<Network>, Error> {
        let listed = self
            .api
            .list_networks(Some(ListNetworksOptions { filters: Some(self.filter()) }))
            .await
            .map_err(failure)?;
        Ok(listed
            .into_iter()
            .filter_map(|network| {
                Some(Network { name: network.name?, labels: network.labels.unwrap_or_default().into_iter().collect() })
            })
            .collect())
    }

    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), Error> {
        self.network(spec).await
    }

    async fn remove_network(&self, name: &str) -> Result<(), Error> {
        gone(self.api.remove_network(name).await)
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        self.inspect_image(reference).await
    }

    async fn pull(&self, reference: &str) -> Result<(), Error> {
        self.pull_image(reference).await
    }

    async fn built_images(&self) -> Result<Vec<Image>, Error> {
        let mut filters = self.filter();
        if let Some(wanted) = filters.get_mut("label") {
            wanted.push(labels::BUILD.to_owned());
        }
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        let listed = self.api.list_images(Some(options)).await.map_err(failure)?;
        Ok(listed.into_iter().map(convert::image_summary).collect())
    }

    async fn unfinished_images(&self) -> Result<Vec<Image>, Error> {
        let filters = [("dangling", "true"), ("label", labels::CACHE)];
        let filters = filters.map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
        let options = ListImagesOptions { filters: Some(filters.into()), ..ListImagesOptions::default() };
        let listed = self.api.list_images(Some(options)).await.map_err(failure)?;
        Ok(listed.into_iter().map(convert::image_summary).collect())
    }

    fn pulled_images(&self) -> BTreeMap<String, jiff::Timestamp> {
        self.pulls.all()
    }

    async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        match self.untag(reference).await {
            // A container made from it is still there; it goes another time.
            Err(Error::Conflict(_)) => Ok(()),
            Err(other) => Err(other),
            Ok(()) => {
                self.pulls.gone(reference);
                Ok(())
            }
        }
    }

    async fn written(&self) -> Result<BTreeMap<String, u64>, Error> {
        let options =
            ListContainersOptions { size: true, filters: Some(self.filter()), ..ListContainersOptions::default() };
        let listed = self.slow.list_containers(Some(options)).await.map_err(failure)?;
        let size = |bytes: Option<i64>| u64::try_from(bytes.unwrap_or_default()).unwrap_or_default();
        Ok(listed.into_iter().filter_map(|one| Some((one.id?, size(one.size_rw)))).collect())
    }

    fn logs(&self, id: &str, query: &LogQuery) -> OutputStream {
        let seconds =
            |at: Option<jiff::Timestamp>| i32::try_from(at.map_or(0, jiff::Timestamp::as_second)).unwrap_or(0);
        let options = LogsOptions {
            follow: query.follow,
            stdout: query.stdout,
            stderr: query.stderr,
            since: seconds(query.since),
            until: seconds(query.until),
            timestamps: query.timestamps,
            tail: query.tail_lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
        };
        Box::pin(self.api.logs(id, Some(options)).map_ok(convert::output).map_err(failure))
    }

    async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<Process, Error> {
        if self.inspect(id).await?.is_none_or(|container| container.state != ContainerState::Running) {
            return Err(Error::Conflict("its container does not run just now".to_owned()));
        }
        // No user: the image's own. Never privileged; the container's other limits hold for all its processes.
        let config = ExecConfig {
            attach_stdin: Some(spec.stdin),
            attach_stdout: Some(spec.stdout),
            attach_stderr: Some(spec.stderr),
            tty: Some(spec.tty),
            privileged: Some(false),
            cmd: Some(spec.command.clone()),
            ..ExecConfig::default()
        };
        let id = self.api.create_exec(id, config).await.map_err(failure)?.id;
        let start = StartExecOptions { detach: false, tty: spec.tty, output_capacity: Some(EXEC_BUFFER_BYTES) };
        match self.api.start_exec(&id, Some(start)).await.map_err(failure)? {
            StartExecResults::Attached { output, input } => {
                let output = Box::pin(output.map_ok(convert::output).map_err(failure));
                Ok(Process { id, output, input })
            }
            StartExecResults::Detached => Err(Error::Refused("docker did not attach to the program".to_owned())),
        }
    }

    async fn resize(&self, process: &str, width: u16, height: u16) -> Result<(), Error> {
        self.api.resize_exec(process, ResizeExecOptions { height, width }).await.map_err(failure)
    }

    async fn exit_code(&self, process: &str) -> Result<Option<i64>, Error> {
        let found = self.api.inspect_exec(process).await.map_err(failure)?;
        Ok(found.exit_code.filter(|_| found.running == Some(false)))
    }

    async fn usage(&self, id: &str) -> Result<UsageSample, Error> {
        let options = StatsOptions { stream: false, one_shot: true };
        let stats = Box::pin(self.api.stats(id, Some(options)))
            .try_next()
            .await
            .map_err(failure)?
            .ok_or_else(|| Error::NotFound(format!("no figures for container {id}")))?;
        let total = convert::processor_nanoseconds(&stats);
        let now = tokio::time::Instant::now();
        let before = self.processor.lock().ok().and_then(|mut all| all.insert(id.to_owned(), (total, now)));
        let cpu_millis = before.map_or(0, |(earlier, at)| {
            let passed = u64::try_from((now - at).as_micros()).unwrap_or(u64::MAX).max(1);
            // Nanoseconds of processor in microseconds of time are thousandths of a processor.
            total.saturating_sub(earlier) / passed
        });
        Ok(UsageSample { cpu_millis, memory_bytes: convert::memory_bytes(&stats) })
    }
}

/// Docker's "no such thing" as `None`, anything else as an error.
fn absent<T>(error: bollard::errors::Error) -> Result<Option<T>, Error> {
    match failure(error) {
        Error::NotFound(_) => Ok(None),
        other => Err(other),
    }
}

/// Removing what is gone already is done.
fn gone(result: Result<(), bollard::errors::Error>) -> Result<(), Error> {
    match result.map_err(failure) {
        Err(Error::NotFound(_)) => Ok(()),
        other => other,
    }
}

/// Docker's error in our words.
fn failure(error: bollard::errors::Error) -> Error {
    use bollard::errors::Error as Theirs;
    match error {
        Theirs::DockerResponseServerError { status_code: 404, message } => Error::NotFound(message),
        Theirs::DockerResponseServerError { status_code: 409, message } => Error::Conflict(message),
        Theirs::DockerResponseServerError { message, .. } => Error::Refused(message),
        Theirs::DockerStreamError { error } => Error::Refused(error),
        other @ (Theirs::RequestTimeoutError
        | Theirs::IOError { .. }
        | Theirs::HyperResponseError { .. }
        | Theirs::HyperLegacyError { .. }
        | Theirs::SocketNotFoundError(_)) => Error::Unreachable(other.to_string()),
        other => Error::Refused(other.to_string()),
    }
}
