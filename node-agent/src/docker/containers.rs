//! What instances need of Docker: containers, what happens to them, what their programs write and use.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, EndpointSettings, ExecConfig, HostConfigLogConfig, NetworkingConfig};
use bollard::query_parameters::{
    CreateContainerOptions, EventsOptions, ListContainersOptions, LogsOptions, StartContainerOptions, StatsOptions,
    StopContainerOptions,
};
use futures::{StreamExt, TryStreamExt};
use node_protocol::UsageSample;

use super::{Docker, convert, environment, failure, gone, hardened, no_health_check};
use crate::labels;
use crate::machine::{
    Container, ContainerSpec, ContainerState, Containers, Engine, EngineEvent, Error, EventStream, ExecSpec, Image,
    LogQuery, Network, NetworkSpec, OutputStream, Process,
};

/// How many containers are inspected at a time: Docker answers them one after another anyway.
const INSPECTIONS: usize = 8;
/// Processes in a container: as `security.md`, against fork bombs.
const PIDS: i64 = 256;
/// What is read at a time of a program's output.
const EXEC_BUFFER_BYTES: usize = 32 << 10;
/// Size of `/tmp` in memory where the root is read-only.
const TMP_OPTIONS: &str = "rw,nosuid,nodev,size=64m,mode=1777";

/// A log of at most 30 MB a container.
fn rotated_log() -> HostConfigLogConfig {
    let config = HashMap::from([("max-size".to_owned(), "10m".to_owned()), ("max-file".to_owned(), "3".to_owned())]);
    HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(config) }
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
        self.list_networks().await
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
        self.list_images(filters).await
    }

    async fn unfinished_images(&self) -> Result<Vec<Image>, Error> {
        let filters = [("dangling", "true"), ("label", labels::CACHE)];
        self.list_images(filters.map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).into()).await
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
