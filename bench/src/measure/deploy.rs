//! Row 9: from asking for a prebuilt image that is there already until its first page is served: Berth through its API,
//! scheduler, agent and Nginx; Docker's own API; Docker Swarm. One after the other, in turns.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use e2e::Platform;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::docker::answers;
use crate::figures::percentile;
use crate::http::Connection;
use crate::measure::Setting;
use crate::row::Figure;
use crate::server::{Access, create_namespace};
use crate::swarm::Swarm;

/// A static program that listens a millisecond after it is started.
pub(crate) const IMAGE: &str = "berth/hello:1";
/// Its port, and the first of those that Swarm publishes.
const PORT: u16 = 8080;
const FIRST_PORT: u16 = 20_000;
/// At least so often, for the percentiles.
const REPETITIONS_MIN: u32 = 15;
/// How often each system is asked whether the page is served.
const POLL: Duration = Duration::from_millis(1);
/// A deployment takes well under a second; one that takes a minute will never come.
const DEPLOY_SECONDS_MAX: u64 = 60;
/// Where the applications are.
pub(crate) const PATH: &str = "/apis/berth.dev/v1alpha1/namespaces/bench/applications";
const INSTANCES: &str = "/apis/berth.dev/v1alpha1/namespaces/bench/instances";

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    setting.docker.image_id(IMAGE).await?;
    let platform = Platform::start().await?;
    let mut deployments = Deployments::new(&platform).await?;
    // A project has a network as long as it has an instance: this one keeps it, as a customer's project does.
    deployments.create("neighbour", json!({})).await?;
    deployments.until_served("neighbour").await?;
    let swarm = Swarm::start(&setting.folder, &setting.docker, IMAGE).await?;

    let outcome = take_turns(setting, &mut deployments, &swarm).await.inspect_err(|_| platform.show_logs());
    swarm.stop().await?;
    let (berth, docker, swarm) = outcome?;

    let name = format!("{}: create, start, connect", setting.docker.version().await?);
    let own: Vec<f64> = berth.iter().zip(&docker).map(|(berth, docker)| berth - docker).collect();
    let own_swarm: Vec<f64> = swarm.iter().zip(&docker).map(|(swarm, docker)| swarm - docker).collect();
    let tail = |times: &[f64]| vec![percentile(times, 99)];
    Ok(vec![
        Figure::at_most("9 deploy on top of Docker's own time", "ms", own, 300.0)
            .beside("Docker Swarm service create, on top of Docker's own time", own_swarm)
            .meaning("goal of the first milestone; the design's is 10 ms. Differences of neighbouring repetitions"),
        Figure::at_most("9 deploy to the first 200 through Nginx", "ms", berth.clone(), 195.0)
            .beside(&name, docker.clone())
            .meaning("goal of the design, of which 185 ms are Docker's own"),
        Figure::at_most("9 deploy to the first 200 through Nginx, beside Swarm", "ms", berth.clone(), 195.0)
            .beside("Docker Swarm service create, port published on the host", swarm.clone())
            .meaning("goal of the design, of which 185 ms are Docker's own"),
        Figure::at_most("9 deploy to the first 200 through Nginx p99", "ms", tail(&berth), 585.0)
            .beside(&name, tail(&docker))
            .meaning("three times the goal of the median"),
    ])
}

async fn take_turns(
    setting: &Setting,
    deployments: &mut Deployments,
    swarm: &Swarm,
) -> anyhow::Result<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    let (mut berth, mut docker, mut swarms) = (Vec::new(), Vec::new(), Vec::new());
    // The first of each warms up.
    for number in 0..=setting.repetitions.max(REPETITIONS_MIN) {
        let times = (
            on_berth(deployments, number).await.context("Berth")?,
            on_docker(setting, number).await.context("Docker")?,
            on_swarm(swarm, number).await.context("Swarm")?,
        );
        if number > 0 {
            berth.push(times.0);
            docker.push(times.1);
            swarms.push(times.2);
        }
    }
    Ok((berth, docker, swarms))
}

async fn on_berth(deployments: &mut Deployments, number: u32) -> anyhow::Result<f64> {
    let name = format!("hello-{number}");
    let (status, _) = deployments.page(&name).await?;
    anyhow::ensure!(status != 200, "the application is served before it is there");
    let asked = Instant::now();
    deployments.create(&name, json!({})).await?;
    deployments.until_served(&name).await?;
    let time = asked.elapsed();
    deployments.delete(&name).await?;
    Ok(time.as_secs_f64() * 1e3)
}

async fn on_docker(setting: &Setting, number: u32) -> anyhow::Result<f64> {
    let name = format!("berth-bench-{}-{number}", std::process::id());
    let asked = Instant::now();
    let (id, address) = setting.docker.run(&name, IMAGE).await?;
    let served = until_answers(SocketAddr::from((address, PORT))).await;
    let time = asked.elapsed();
    setting.docker.remove(&id).await?;
    served?;
    Ok(time.as_secs_f64() * 1e3)
}

async fn on_swarm(swarm: &Swarm, number: u32) -> anyhow::Result<f64> {
    let port = FIRST_PORT + u16::try_from(number)?;
    let asked = Instant::now();
    let (id, address) = swarm.create(&format!("hello-{number}"), port).await?;
    let served = until_answers(address).await;
    let time = asked.elapsed();
    if let Err(error) = served {
        return Err(error.context(swarm.explain(&id).await));
    }
    swarm.remove(&id).await?;
    Ok(time.as_secs_f64() * 1e3)
}

async fn until_answers(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(DEPLOY_SECONDS_MAX);
    loop {
        // A packet that was dropped while the network was made is sent again only after a second.
        if tokio::time::timeout(Duration::from_millis(100), answers(address)).await.unwrap_or(false) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "nothing answers at {address}");
        tokio::time::sleep(POLL).await;
    }
}

/// Applications of one project on a platform.
pub(crate) struct Deployments {
    api: Connection,
    nginx: SocketAddr,
}

impl Deployments {
    pub(crate) async fn new(platform: &Platform) -> anyhow::Result<Self> {
        let mut api = Access::read(&platform.kubeconfig())?.connect().await?;
        create_namespace(&mut api, "bench").await?;
        Ok(Self { api, nginx: SocketAddr::from(([127, 0, 0, 1], platform.http_port())) })
    }

    /// Asks for an application of one instance; `more` is merged into its spec.
    pub(crate) async fn create(&mut self, name: &str, more: Value) -> anyhow::Result<()> {
        let mut spec = json!({
            "source": {"image": {"reference": IMAGE}}, "plan": "small", "instances": 1, "health": {"path": "/healthz"},
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        let application = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Application", "metadata": {"name": name}, "spec": spec,
        });
        self.api.post(PATH, serde_json::to_vec(&application)?).await.map(drop)
    }

    pub(crate) async fn patch(&mut self, name: &str, patch: &Value) -> anyhow::Result<()> {
        let body = serde_json::to_vec(patch)?;
        self.api.good(http::Method::PATCH, &format!("{PATH}/{name}"), body.into()).await.map(drop)
    }

    /// Deletes an application and waits until its route and its instances, and so its containers, are gone: what is
    /// measured next must not compete with them. That nothing else is left is what the whole-system tests show.
    pub(crate) async fn delete(&mut self, name: &str) -> anyhow::Result<()> {
        self.api.good(http::Method::DELETE, &format!("{PATH}/{name}"), bytes::Bytes::new()).await?;
        let deadline = Instant::now() + Duration::from_secs(DEPLOY_SECONDS_MAX);
        loop {
            let list: Value = serde_json::from_slice(&self.api.get(INSTANCES).await?)?;
            let instances = list["items"].as_array().context("a list has items")?;
            let left = instances.iter().any(|instance| instance["spec"]["application"] == name);
            if !left && self.page(name).await?.0 != 200 {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "{name} is not deleted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The host name of an application: `berth up` was given this domain.
    pub(crate) fn host(name: &str) -> String {
        format!("{}.apps.example.test", crds::names::slug("bench", name))
    }

    pub(crate) fn nginx(&self) -> SocketAddr {
        self.nginx
    }

    /// What Nginx answers for an application right now; status 0 if it does not.
    pub(crate) async fn page(&self, name: &str) -> anyhow::Result<(u16, bytes::Bytes)> {
        let asked = async {
            let mut connection = Connection::tcp(self.nginx, &Self::host(name)).await?;
            connection.call(http::Method::GET, "/", bytes::Bytes::new()).await
        };
        Ok(asked.await.unwrap_or_default())
    }

    pub(crate) async fn until_served(&mut self, name: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(DEPLOY_SECONDS_MAX);
        while self.page(name).await?.0 != 200 {
            if Instant::now() > deadline {
                let object = self.api.get(&format!("{PATH}/{name}")).await?;
                anyhow::bail!("{name} is not served: {}", String::from_utf8_lossy(&object));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}
