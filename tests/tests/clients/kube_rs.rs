//! kube-rs over TLS with the kubeconfig: what an operator written in Rust does with Berth's kinds, by their own types.
//!
//! What depends on the API alone, such as discovery and falling behind, is tested in process: `apiserver/tests/it/kube_rs.rs`.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use crds::Application;
use crds::application::{ApplicationSpec, ImageSource, Source};
use e2e::{Database, Server, until, within};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::events::v1::Event as Recorded;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Resource, ResourceExt};

const HOLD: &str = "example.test/hold";

pub(crate) async fn story(database: Database) -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let server = Server::start(database, &[]).await?;
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let told = async {
        applies_with_types(&client).await.context("server-side apply")?;
        for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
            watches(&client, config.clone()).await.with_context(|| format!("{config:?}"))?;
        }
        records_events(&client).await.context("events")?;
        holds_and_releases(&client).await.context("the finalizer")?;
        leads(&client).await.context("a lease")
    };
    told.await.with_context(|| format!("--- server\n{}", server.log()))?;
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.stop().await
}

/// An application that is switched off: nothing happens to it but what the story does.
fn application(name: &str, instances: i32) -> Application {
    let image = ImageSource { reference: "example.test/shop:1".to_owned() };
    let spec = ApplicationSpec {
        source: Source { image: Some(image), git: None },
        runtime: None,
        plan: "small".to_owned(),
        region: None,
        instances,
        running: false,
        build: crds::application::BuildOptions::default(),
        start: crds::application::Start::default(),
        env: Vec::new(),
        domains: Vec::new(),
        health: crds::health::Health::default(),
        rollout: crds::health::Rollout::default(),
        release: None,
    };
    Application::new(name, spec)
}

/// What the API answered to a request that it must refuse.
fn refusal<T: std::fmt::Debug>(answer: kube::Result<T>) -> anyhow::Result<(u16, String, String)> {
    match answer {
        Err(kube::Error::Api(status)) => Ok((status.code, status.reason.clone(), status.message.clone())),
        other => bail!("not refused: {other:?}"),
    }
}

async fn applies_with_types(client: &Client) -> anyhow::Result<()> {
    let version = client.apiserver_version().await?;
    ensure!(version.git_version.starts_with("v1.35.0+berth."), "{version:?}");
    let api: Api<Application> = Api::default_namespaced(client.clone());
    let (ours, theirs) = (PatchParams::apply("operator"), PatchParams::apply("other"));
    let made = api.patch("web", &ours, &Patch::Apply(application("web", 1))).await?;
    let fields = made.metadata.managed_fields.clone().unwrap_or_default();
    ensure!(fields.iter().any(|one| one.manager.as_deref() == Some("operator")), "{fields:?}");
    let again = api.patch("web", &ours, &Patch::Apply(application("web", 1))).await?;
    ensure!(again.metadata.generation == made.metadata.generation, "the same again is no change: {again:?}");
    let (code, reason, message) = refusal(api.patch("web", &theirs, &Patch::Apply(application("web", 2))).await)?;
    ensure!((code, &*reason) == (409, "Conflict"), "{message}");
    ensure!(message.contains(r#"conflict with "operator": .spec.instances"#), "{message}");
    let forced = api.patch("web", &theirs.force(), &Patch::Apply(application("web", 2))).await?;
    ensure!((forced.spec.instances, forced.metadata.generation) == (2, Some(2)), "{forced:?}");
    let (code, reason, message) = refusal(api.create(&PostParams::default(), &application("bad", -1)).await)?;
    ensure!((code, &*reason) == (422, "Invalid") && message.contains("spec.instances"), "{message}");
    // The controller answers by the same types.
    until("its status", within(60), async || {
        let status = api.get_status("web").await?.status.context("it has no status yet")?;
        ensure!(status.observed_generation == Some(2), "{status:?}");
        Ok(())
    })
    .await
}

async fn watches(client: &Client, config: watcher::Config) -> anyhow::Result<()> {
    let api: Api<Application> = Api::default_namespaced(client.clone());
    let mut events = watcher(Api::<Application>::all(client.clone()), config).boxed();
    for expected in ["init", "init web", "done"] {
        let event = next(&mut events).await?;
        ensure!(event == expected, "{event} in place of {expected}");
    }
    api.create(&PostParams::default(), &application("second", 1)).await?;
    sees(&mut events, "apply second").await?;
    api.delete("second", &DeleteParams::default()).await?;
    sees(&mut events, "delete second").await
}

type Events = watcher::Result<watcher::Event<Application>>;

async fn next(events: &mut (impl Stream<Item = Events> + Unpin)) -> anyhow::Result<String> {
    let event = tokio::time::timeout(within(60), events.try_next()).await.context("nothing is told")??;
    Ok(match event.context("the watcher ended")? {
        watcher::Event::Init => "init".to_owned(),
        watcher::Event::InitDone => "done".to_owned(),
        watcher::Event::InitApply(object) => format!("init {}", object.name_any()),
        watcher::Event::Apply(object) => format!("apply {}", object.name_any()),
        watcher::Event::Delete(object) => format!("delete {}", object.name_any()),
    })
}

/// Waits for an event; the controller's own changes come in between.
async fn sees(events: &mut (impl Stream<Item = Events> + Unpin), wanted: &str) -> anyhow::Result<()> {
    while next(events).await? != wanted {}
    Ok(())
}

async fn records_events(client: &Client) -> anyhow::Result<()> {
    let web = Api::<Application>::default_namespaced(client.clone()).get("web").await?;
    let recorder =
        Recorder::new(client.clone(), Reporter { controller: "example.test/operator".into(), instance: None });
    let event = Event {
        type_: EventType::Normal,
        reason: "Measured".into(),
        note: Some("it is one long".into()),
        action: "Measure".into(),
        secondary: None,
    };
    for _ in 0..2 {
        recorder.publish(&event, &web.object_ref(&())).await?;
    }
    let stored: Api<Recorded> = Api::default_namespaced(client.clone());
    let stored = stored.list(&ListParams::default().fields("reason=Measured")).await?.items;
    ensure!(stored.len() == 1, "{stored:?}");
    ensure!(stored[0].series.as_ref().map(|series| series.count) == Some(2), "{stored:?}");
    Ok(())
}

async fn holds_and_releases(client: &Client) -> anyhow::Result<()> {
    let api: Api<Application> = Api::default_namespaced(client.clone());
    let reconcile = async || -> anyhow::Result<()> {
        let object = Arc::new(api.get("web").await?);
        let done = async |_: finalizer::Event<Application>| Ok::<_, std::io::Error>(Action::await_change());
        finalizer(&api, HOLD, object, done).await?;
        Ok(())
    };
    let held = async || {
        Ok::<_, kube::Error>(api.get_opt("web").await?.is_some_and(|web| web.finalizers().contains(&HOLD.to_owned())))
    };
    // The controller has a finalizer of its own and may write it meanwhile: then the helper asks to be run again.
    until("it is held", within(60), async || {
        reconcile().await?;
        ensure!(held().await?, "it is not held yet");
        Ok(())
    })
    .await?;
    ensure!(api.delete("web", &DeleteParams::foreground()).await?.is_left(), "it is there until it is let go");
    ensure!(held().await?, "it went although it was held");
    until("it is let go", within(60), async || {
        if api.get_opt("web").await?.is_none() {
            return Ok(());
        }
        reconcile().await?;
        bail!("it is still there")
    })
    .await
}

/// Two that want to lead read the same Lease: the one that writes later has lost.
async fn leads(client: &Client) -> anyhow::Result<()> {
    let api: Api<Lease> = Api::default_namespaced(client.clone());
    let mut lease = Lease::default();
    lease.metadata.name = Some("operator".to_owned());
    api.create(&PostParams::default(), &lease).await?;
    let seen = api.get("operator").await?;
    let claim = |holder: &str| {
        let mut lease = seen.clone();
        lease.spec = Some(LeaseSpec { holder_identity: Some(holder.to_owned()), ..LeaseSpec::default() });
        lease
    };
    api.replace("operator", &PostParams::default(), &claim("first")).await?;
    let (code, reason, message) = refusal(api.replace("operator", &PostParams::default(), &claim("second")).await)?;
    ensure!((code, &*reason) == (409, "Conflict"), "{message}");
    let holder = api.get("operator").await?.spec.and_then(|spec| spec.holder_identity);
    ensure!(holder.as_deref() == Some("first"), "{holder:?}");
    api.delete("operator", &DeleteParams::default()).await?;
    Ok(())
}
