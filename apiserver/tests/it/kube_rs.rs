//! kube-rs over a tower service in the same process: what reconcilers do.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::watcher::{self, watcher};
use kube::{Client, CustomResource, Discovery, Resource as _, ResourceExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::world::{PATIENCE, World, eventually};

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize)]
#[kube(
    group = "example.dev",
    version = "v1",
    kind = "Widget",
    namespaced,
    status = "WidgetStatus",
    schema = "disabled"
)]
struct WidgetSpec {
    size: i64,
    #[serde(default)]
    replicas: i64,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct WidgetStatus {
    phase: Option<String>,
}

fn client(world: &World) -> Client {
    Client::new(world.local(), "default")
}

fn widget(name: &str) -> Widget {
    Widget::new(name, WidgetSpec { size: 1, replicas: 1 })
}

#[tokio::test]
async fn objects_are_written_and_read_with_types() {
    let world = World::new().await;
    let client = client(&world);
    assert!(client.apiserver_version().await.unwrap().git_version.starts_with("v1.35.0+berth."));
    let api: Api<Widget> = Api::default_namespaced(client);
    let made = api.create(&PostParams::default(), &widget("web")).await.unwrap();
    assert!(made.metadata.resource_version.is_some());
    assert!(api.get_opt("nope").await.unwrap().is_none());
    let patch = Patch::Merge(json!({"status": {"phase": "Up"}}));
    let reported = api.patch_status("web", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(reported.status.unwrap().phase.as_deref(), Some("Up"));
    assert_eq!(api.get_scale("web").await.unwrap().spec.unwrap().replicas, Some(1));
    let scale = Patch::Merge(json!({"spec": {"replicas": 4}}));
    api.patch_scale("web", &PatchParams::default(), &scale).await.unwrap();
    let mut current = api.get("web").await.unwrap();
    assert_eq!((current.spec.replicas, current.metadata.generation), (4, Some(2)));
    assert_eq!(api.get_metadata("web").await.unwrap().name_any(), "web");
    assert_eq!(api.list_metadata(&ListParams::default().limit(10)).await.unwrap().items.len(), 1);

    current.spec.size = 9;
    api.replace("web", &PostParams::default(), &current).await.unwrap();
    match api.replace("web", &PostParams::default(), &current).await {
        Err(kube::Error::Api(status)) => assert_eq!((status.code, status.reason.as_str()), (409, "Conflict")),
        other => panic!("a stale write must be refused: {other:?}"),
    }
    assert!(api.delete("web", &DeleteParams::background()).await.unwrap().is_right());
}

#[tokio::test]
async fn objects_are_applied_with_types() {
    let world = World::new().await;
    let api: Api<Widget> = Api::default_namespaced(client(&world));
    let apply = PatchParams::apply("operator");
    let made = api.patch("web", &apply, &Patch::Apply(widget("web"))).await.unwrap();
    let again = api.patch("web", &apply, &Patch::Apply(widget("web"))).await.unwrap();
    assert_eq!(made.metadata.resource_version, again.metadata.resource_version);
    let fields = made.metadata.managed_fields.unwrap();
    assert_eq!((fields[0].manager.as_deref(), fields[0].operation.as_deref()), (Some("operator"), Some("Apply")));
    let mut larger = widget("web");
    larger.spec.size = 2;
    let other = PatchParams::apply("other");
    let refused = api.patch("web", &other, &Patch::Apply(&larger)).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let forced = api.patch("web", &other.clone().force(), &Patch::Apply(&larger)).await.unwrap();
    assert_eq!(forced.spec.size, 2);
    let report = json!({"apiVersion": "example.dev/v1", "kind": "Widget", "status": {"phase": "Up"}});
    let reported = api.patch_status("web", &apply, &Patch::Apply(report)).await.unwrap();
    assert_eq!(reported.status.unwrap().phase.as_deref(), Some("Up"));
    // A part of this process that does not say who it is goes by the name of its identity.
    let merged = api.patch("web", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 7}}))).await;
    let managers: Vec<_> = merged.unwrap().metadata.managed_fields.unwrap().into_iter().map(|f| f.manager).collect();
    assert!(managers.contains(&Some("test".to_owned())), "{managers:?}");
}

#[tokio::test]
async fn both_kinds_of_watcher_see_the_same() {
    let world = World::new().await;
    let api: Api<Widget> = Api::all(client(&world));
    let own: Api<Widget> = Api::default_namespaced(client(&world));
    own.create(&PostParams::default(), &widget("first")).await.unwrap();
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut events = watcher(api.clone(), config).boxed();
        let mut next = async || {
            let event = tokio::time::timeout(PATIENCE, events.try_next()).await.unwrap().unwrap().unwrap();
            match event {
                watcher::Event::Init => "init".to_owned(),
                watcher::Event::InitDone => "done".to_owned(),
                watcher::Event::InitApply(object) => format!("init {}", object.name_any()),
                watcher::Event::Apply(object) => format!("apply {}", object.name_any()),
                watcher::Event::Delete(object) => format!("delete {}", object.name_any()),
            }
        };
        assert_eq!([next().await, next().await, next().await], ["init", "init first", "done"]);
        own.create(&PostParams::default(), &widget("second")).await.unwrap();
        assert_eq!(next().await, "apply second");
        own.delete("second", &DeleteParams::default()).await.unwrap();
        assert_eq!(next().await, "delete second");
    }
}

#[tokio::test]
async fn a_watcher_that_fell_behind_lists_again() {
    let world = World::with_short_memory().await;
    let api: Api<Widget> = Api::default_namespaced(client(&world));
    api.create(&PostParams::default(), &widget("web")).await.unwrap();
    let mut events = watcher(api.clone(), watcher::Config::default()).boxed();
    let mut inits = 0;
    let mut wait_for_size = async |size: i64| {
        loop {
            let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap();
            match event {
                Ok(watcher::Event::InitDone) => inits += 1,
                Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) if object.spec.size == size => {
                    return inits;
                }
                // The error that tells of the lost place is reported before it is repaired.
                _ => {}
            }
        }
    };
    wait_for_size(1).await;
    for size in 2..=60 {
        api.patch("web", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": size}}))).await.unwrap();
    }
    wait_for_size(60).await;
}

#[tokio::test]
async fn the_finalizer_helper_holds_and_releases() {
    let world = World::new().await;
    let api: Api<Widget> = Api::default_namespaced(client(&world));
    api.create(&PostParams::default(), &widget("web")).await.unwrap();
    let reconcile = async || {
        let object = Arc::new(api.get("web").await.unwrap());
        finalizer(&api, "example.dev/hold", object, |event| async move {
            match event {
                finalizer::Event::Apply(_) | finalizer::Event::Cleanup(_) => {
                    Ok::<_, std::io::Error>(Action::await_change())
                }
            }
        })
        .await
    };
    reconcile().await.unwrap();
    assert_eq!(api.get("web").await.unwrap().finalizers(), ["example.dev/hold"]);
    reconcile().await.unwrap();
    assert!(api.delete("web", &DeleteParams::foreground()).await.unwrap().is_left());
    reconcile().await.unwrap();
    eventually("the object is gone", async || api.get_opt("web").await.unwrap().is_none()).await;
}

#[tokio::test]
async fn owned_objects_go_with_their_owner() {
    let world = World::new().await;
    let api: Api<Widget> = Api::default_namespaced(client(&world));
    let secrets: Api<Secret> = Api::default_namespaced(client(&world));
    let web = api.create(&PostParams::default(), &widget("web")).await.unwrap();
    let mut secret = Secret::default();
    secret.metadata.name = Some("key".into());
    secret.metadata.owner_references = web.controller_owner_ref(&()).map(|owner| vec![owner]);
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    api.delete("web", &DeleteParams::default()).await.unwrap();
    eventually("the dependent is gone", async || secrets.get_opt("key").await.unwrap().is_none()).await;
}

#[tokio::test]
async fn events_are_recorded_and_repeated_ones_counted() {
    let world = World::new().await;
    let api: Api<Widget> = Api::default_namespaced(client(&world));
    let web = api.create(&PostParams::default(), &widget("web")).await.unwrap();
    let recorder = Recorder::new(client(&world), Reporter { controller: "example.dev/test".into(), instance: None });
    let event = Event {
        type_: EventType::Normal,
        reason: "Measured".into(),
        note: Some("one long".into()),
        action: "Measure".into(),
        secondary: None,
    };
    recorder.publish(&event, &web.object_ref(&())).await.unwrap();
    recorder.publish(&event, &web.object_ref(&())).await.unwrap();
    let stored: Api<k8s_openapi::api::events::v1::Event> = Api::default_namespaced(client(&world));
    let stored = stored.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].series.as_ref().map(|series| series.count), Some(2));
}

#[tokio::test]
async fn both_discoveries_find_the_kind() {
    let world = World::new().await;
    for discovery in [
        Discovery::new(client(&world)).run().await.unwrap(),
        Discovery::new(client(&world)).run_aggregated().await.unwrap(),
    ] {
        let group = discovery.get("example.dev").expect("the group is found");
        let (resource, capabilities) = group.recommended_kind("Widget").expect("the kind is found");
        assert_eq!(resource.plural, "widgets");
        assert!(capabilities.supports_operation("watch"));
        assert_eq!(capabilities.subresources.len(), 2);
    }
}
