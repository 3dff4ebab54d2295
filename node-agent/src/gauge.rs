//! How the node is: heartbeats, every 30 s and whenever a connection begins.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use node_protocol::{HEARTBEAT_SECONDS, Heartbeat, NodeResources, PartState, UsageSample};
use sysinfo::{Disks, System};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::machine::{Containers, Router};
use crate::session::AGENT_VERSION;
use crate::{clock, firewall};

/// How many containers are asked for their figures at a time: each answer costs Docker some milliseconds.
const ASKED_AT_ONCE: usize = 4;
/// How long Docker may take for the figures of one container; a container without figures is left out.
const FIGURES_WITHIN: Duration = Duration::from_secs(5);
/// How long Docker may take to say who it is, and Nginx how it is. A heartbeat must not wait for what is slow: without
/// one for a minute and a half the node counts as silent, and its instances as lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long the figures of all containers may take together: the rest is left out.
const ALL_FIGURES_WITHIN: Duration = Duration::from_secs(15);
/// How long after the start of the agent, or of Docker's first answer, the first heartbeat comes.
const FIRST: Duration = Duration::from_millis(50);

/// What heartbeats are made from.
pub(crate) struct Gauge<C, R> {
    /// Runs containers.
    pub(crate) containers: Arc<C>,
    /// Routes requests.
    pub(crate) router: Arc<R>,
    /// Whether Docker works.
    pub(crate) engine: watch::Receiver<PartState>,
    /// What is wrong with the firewall, if anything.
    pub(crate) firewall: watch::Receiver<firewall::State>,
    /// Containers that run, by the instance's uid.
    pub(crate) running: watch::Receiver<BTreeMap<String, String>>,
    /// The node's name, and the server, by whose side the node's address is found.
    pub(crate) name: String,
    /// Host of the server.
    pub(crate) server: String,
}

impl<C: Containers, R: Router> Gauge<C, R> {
    /// Makes heartbeats until it is told to stop: every 30 s, and when Docker comes or goes.
    pub(crate) async fn run(mut self, heartbeats: watch::Sender<Option<Arc<Heartbeat>>>, shutdown: CancellationToken) {
        let mut system = System::new().ok();
        let mut next = tokio::time::Instant::now() + FIRST;
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
                Ok(()) = self.engine.changed() => {}
            }
            let Some(heartbeat) = shutdown.run_until_cancelled(self.heartbeat(&mut system)).await else { return };
            heartbeats.send_replace(Some(Arc::new(heartbeat)));
            next = tokio::time::Instant::now() + Duration::from_secs(HEARTBEAT_SECONDS);
        }
    }

    async fn heartbeat(&mut self, system: &mut Option<System>) -> Heartbeat {
        let mut docker = self.engine.borrow_and_update().clone();
        let mut engine = None;
        if docker.healthy {
            match tokio::time::timeout(ANSWER_WITHIN, self.containers.engine()).await {
                Ok(answer) => engine = answer.ok(),
                Err(late) => {
                    tracing::debug!(%late, "docker is slow");
                    docker.message = format!("it did not answer within {} s", ANSWER_WITHIN.as_secs());
                }
            }
        }
        if let Some(trouble) = &self.firewall.borrow().trouble {
            // Instances run, but are not kept apart as they should be: a person must know.
            docker.message = [docker.message.as_str(), trouble]
                .into_iter()
                .filter(|words| !words.is_empty())
                .collect::<Vec<_>>()
                .join("; ");
        }
        let instances = if engine.is_some() { self.instances().await } else { BTreeMap::new() };
        let data_root = engine.as_ref().map_or("/", |engine| engine.data_root.as_str());
        let (capacity, usage) = resources(system, Path::new(data_root));
        Heartbeat {
            at: clock::now().to_string(),
            capacity,
            usage,
            addresses: self.addresses(),
            agent_version: AGENT_VERSION.to_owned(),
            docker_version: engine.map(|engine| engine.version),
            nginx_version: tokio::time::timeout(ANSWER_WITHIN, self.router.version()).await.ok().flatten(),
            docker,
            ingress: tokio::time::timeout(ANSWER_WITHIN, self.router.state()).await.unwrap_or_else(|late| PartState {
                healthy: false,
                message: format!("nginx did not answer within {} s: {late}", ANSWER_WITHIN.as_secs()),
            }),
            instances,
        }
    }

    async fn instances(&self) -> BTreeMap<String, UsageSample> {
        let running = self.running.borrow().clone();
        let enough = tokio::time::sleep(ALL_FIGURES_WITHIN);
        futures::stream::iter(running)
            .map(|(uid, container)| async move {
                let figures = tokio::time::timeout(FIGURES_WITHIN, self.containers.usage(&container)).await;
                Some((uid, figures.ok()?.ok()?))
            })
            .buffer_unordered(ASKED_AT_ONCE)
            .filter_map(|figures| async move { figures })
            .take_until(enough)
            .collect()
            .await
    }

    fn addresses(&self) -> BTreeMap<String, String> {
        let mut addresses = BTreeMap::from([("Hostname".to_owned(), self.name.clone())]);
        if let Some(address) = own_address(&self.server) {
            addresses.insert("InternalIP".to_owned(), address.to_string());
        }
        addresses
    }
}

/// The address from which this machine reaches the server. Nothing is sent: the kernel only looks up the way.
fn own_address(server: &str) -> Option<IpAddr> {
    let address: IpAddr = server.trim_matches(['[', ']']).parse().unwrap_or(IpAddr::from([192, 0, 2, 1]));
    let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((address, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// What the machine has, and what of it is used.
fn resources(system: &mut Option<System>, data_root: &Path) -> (NodeResources, NodeResources) {
    let (mut total, mut available, mut permille) = (0, 0, 0);
    if let Some(system) = system {
        system.refresh_memory();
        system.refresh_cpu_usage();
        (total, available) = (system.total_memory(), system.available_memory());
        permille = thousandths(system.global_cpu_usage());
    }
    let processors = u64::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
    let (disk, free) = disk(data_root);
    let capacity = NodeResources { cpu_millis: processors * 1000, memory_bytes: total, disk_bytes: disk };
    let usage = NodeResources {
        cpu_millis: processors * permille,
        memory_bytes: total.saturating_sub(available),
        disk_bytes: disk.saturating_sub(free),
    };
    (capacity, usage)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100 percent")]
fn thousandths(percent: f32) -> u64 {
    (percent.clamp(0.0, 100.0) * 10.0) as u64
}

/// Size and free bytes of the disk on which a folder lies.
pub(crate) fn disk(folder: &Path) -> (u64, u64) {
    let Ok(disks) = Disks::new_with_refreshed_list() else { return (0, 0) };
    disks
        .iter()
        .filter(|disk| folder.starts_with(disk.mount_point()))
        .max_by_key(|disk| disk.mount_point().as_os_str().len())
        .map_or((0, 0), |disk| (disk.total_space(), disk.available_space()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, State};

    #[test]
    fn a_machine_has_processors_memory_and_a_disk() {
        let (capacity, usage) = resources(&mut System::new().ok(), Path::new("/tmp"));
        assert!(capacity.cpu_millis >= 1000 && capacity.memory_bytes > 1 << 26 && capacity.disk_bytes > 1 << 26);
        assert!(usage.memory_bytes < capacity.memory_bytes && usage.disk_bytes <= capacity.disk_bytes);
    }

    /// A heartbeat of a node whose Docker never answers.
    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_does_not_wait_for_what_is_slow() {
        let stuck = Arc::new(Fake::new("node", State { stuck: true, ..State::default() }));
        let well = PartState { healthy: true, message: String::new() };
        let (_engine, engine) = watch::channel(well);
        let (_firewall, firewall) =
            watch::channel(firewall::State { tried: true, trouble: Some("no iptables".to_owned()) });
        let containers = (0..100).map(|number| (number.to_string(), number.to_string())).collect();
        let (_running, running) = watch::channel(containers);
        let (name, server) = ("node".to_owned(), "127.0.0.1".to_owned());
        let mut gauge = Gauge {
            containers: Arc::clone(&stuck),
            router: Arc::clone(&stuck),
            engine,
            firewall,
            running,
            name,
            server,
        };
        let within = async |gauge: &mut Gauge<Fake, Fake>| {
            tokio::time::timeout(Duration::from_secs(HEARTBEAT_SECONDS), gauge.heartbeat(&mut None)).await.unwrap()
        };
        let heartbeat = within(&mut gauge).await;
        assert_eq!(heartbeat.docker.message, "it did not answer within 5 s; no iptables");
        let figures = tokio::time::timeout(Duration::from_secs(20), gauge.instances()).await.unwrap();
        assert_eq!(figures.len(), 0);
    }

    #[test]
    fn the_way_to_oneself_is_oneself() {
        assert_eq!(own_address("127.0.0.1"), Some([127, 0, 0, 1].into()));
    }
}
