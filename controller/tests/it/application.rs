//! From an Application to instances that serve, and back to nothing.

use crds::{Application, Build, Instance, Release};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;

use crate::platform::{Platform, active, condition, is, names, prebuilt};

#[tokio::test(flavor = "multi_thread")]
async fn a_prebuilt_image_is_served_and_leaves_nothing_behind() {
    let platform = Platform::new().await;
    platform.create(&platform.namespaced::<Application>(), prebuilt("web", "app:1")).await;
    let web = platform.until("web", "it runs", |web| is(web, "Ready", "True", "Running")).await;
    let status = web.status.clone().unwrap();
    assert_eq!(status.url.as_deref(), Some("http://web-default.apps.example.com"));
    assert_eq!((status.instances.desired, status.instances.ready), (1, 1));
    let one = &platform.instances().await[0];
    assert_eq!(one.name_any(), format!("{}-0", active(&web)));
    assert_eq!(one.spec.node_name.as_deref(), Some("n1"));

    platform.namespaced::<Application>().delete("web", &DeleteParams::default()).await.unwrap();
    platform
        .eventually("everything is gone", async || {
            let api = platform.namespaced::<Application>();
            api.get_opt("web").await.unwrap().is_none()
        })
        .await;
    assert_eq!(names(&platform.instances().await), Vec::<String>::new());
    platform
        .eventually("its releases are gone", async || {
            platform.namespaced::<Release>().list(&ListParams::default()).await.unwrap().items.is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_release_takes_over_and_an_old_one_can_be_had_back() {
    let platform = Platform::new().await;
    platform.create(&platform.namespaced::<Application>(), prebuilt("web", "app:1")).await;
    let first = active(&platform.until("web", "it runs", |web| is(web, "Ready", "True", "Running")).await);
    platform.patch("web", json!({ "spec": { "source": { "image": { "reference": "app:2" } }, "instances": 3 } })).await;
    let rolled = |web: &Application| active(web) != first && is(web, "RolledOut", "True", "RolledOut");
    let second = active(&platform.until("web", "the second release serves", rolled).await);
    let release = platform.namespaced::<Release>().get(&second).await.unwrap();
    assert_eq!((release.spec.number, release.spec.change.as_str()), (2, "image app:2"));

    platform.patch("web", json!({ "spec": { "release": first } })).await;
    platform.until("web", "the first serves again", |web| active(web) == first).await;
    let images: Vec<String> = platform
        .instances()
        .await
        .into_iter()
        .filter(|instance| instance.metadata.deletion_timestamp.is_none())
        .map(|instance| instance.spec.template.image)
        .collect();
    assert_eq!(images, ["app:1", "app:1", "app:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_does_not_start_is_given_up_and_the_old_one_serves_on() {
    let platform = Platform::new().await;
    platform.create(&platform.namespaced::<Application>(), prebuilt("web", "app:1")).await;
    let first = active(&platform.until("web", "it runs", |web| is(web, "Ready", "True", "Running")).await);
    platform.patch("web", json!({ "spec": { "source": { "image": { "reference": "broken:2" } } } })).await;
    let web = platform.until("web", "given up", |web| is(web, "RolledOut", "False", "RolloutFailed")).await;
    assert_eq!((active(&web), condition(&web, "Ready").0.as_str()), (first.clone(), "True"));
    platform
        .eventually("only the old instance is left", async || {
            names(&platform.instances().await) == [format!("{first}-0")]
        })
        .await;
    platform
        .eventually("the last log lines are told", async || {
            let events: Api<Event> = platform.namespaced();
            let events = events.list(&ListParams::default()).await.unwrap().items;
            events.iter().any(|event| {
                event.reason.as_deref() == Some("RolloutFailed")
                    && event.note.as_deref().is_some_and(|note| note.contains("Error: no such module"))
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_by_name() {
    let platform = Platform::new().await;
    let mut web = prebuilt("web", "app:1");
    web["spec"]["plan"] = json!("huge");
    platform.create(&platform.namespaced::<Application>(), web).await;
    let web = platform.until("web", "no plan", |web| is(web, "Ready", "False", "PlanNotFound")).await;
    let message = &web.status.unwrap().conditions.iter().find(|it| it.type_ == "Ready").unwrap().message.clone();
    assert_eq!(message, "there is no plan \"huge\"; there are: small");
    let env = json!([{ "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "k" } } }]);
    platform.patch("web", json!({ "spec": { "plan": "small", "env": env } })).await;
    platform.until("web", "no secret", |web| is(web, "Ready", "False", "SecretNotFound")).await;
    let secret = json!({ "metadata": { "name": "keys" }, "stringData": { "k": "v" } });
    platform.create(&platform.namespaced::<k8s_openapi::api::core::v1::Secret>(), secret).await;
    platform.until("web", "it runs", |web| is(web, "Ready", "True", "Running")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_built_and_rolled_out_and_a_broken_one_is_not() {
    let platform = Platform::new().await;
    let git = json!({ "url": "https://git.example.com/acme/shop.git", "branch": "main" });
    let shop = json!({ "metadata": { "name": "shop" }, "spec": { "source": { "git": git }, "plan": "small" } });
    let api = platform.namespaced::<Application>();
    platform.create(&api, shop).await;
    let source = |branch: &str, digit: &str| json!({ "source": { "of": format!("https://git.example.com/acme/shop.git#{branch}"), "commit": digit.repeat(40) } });
    platform.status(&api, "shop", source("main", "1")).await;
    let shop = platform.until("shop", "it runs", |shop| is(shop, "Ready", "True", "Running")).await;
    let first = active(&shop);
    let instance = platform.instances().await.remove(0);
    let template = instance.spec.template;
    assert_eq!((template.command.as_deref(), template.port), (Some("node server.js"), Some(3000)));
    assert_eq!(template.image_node.as_deref(), Some("n1"));

    platform.status(&api, "shop", source("main", "2")).await;
    let shop = platform.until("shop", "the commit serves", |shop| active(shop) != first).await;
    let second = active(&shop);
    let builds = platform.namespaced::<Build>().list(&ListParams::default()).await.unwrap().items;
    let newest = shop.status.as_ref().unwrap().latest_build.clone();
    let newest = builds.iter().find(|build| Some(build.name_any()) == newest).unwrap();
    assert_eq!(newest.spec.trigger, crds::build::Trigger::Push);

    platform.patch("shop", json!({ "spec": { "source": { "git": { "branch": "broken" } } } })).await;
    platform.status(&api, "shop", source("broken", "3")).await;
    let failed = |shop: &Application| is(shop, "BuildSucceeded", "False", "BuildFailed");
    let shop = platform.until("shop", "the build fails", failed).await;
    assert_eq!((active(&shop), condition(&shop, "Ready").0.as_str()), (second, "True"), "the old one serves on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_deploy_is_about_what_the_branch_points_to_by_then() {
    let platform = Platform::new().await;
    let git = json!({ "url": "https://git.example.com/acme/shop.git", "branch": "main" });
    let shop = json!({ "metadata": { "name": "shop" }, "spec": { "source": { "git": git }, "plan": "small" } });
    let api = platform.namespaced::<Application>();
    platform.create(&api, shop).await;
    let source = |digit: &str, deploy: Option<&str>| json!({ "source": { "of": "https://git.example.com/acme/shop.git#main", "deploy": deploy, "commit": digit.repeat(40), "error": null } });
    platform.status(&api, "shop", source("1", None)).await;
    let first = active(&platform.until("shop", "it runs", |shop| is(shop, "Ready", "True", "Running")).await);

    // Somebody has pushed, and nobody has looked at the branch since.
    platform.patch("shop", json!({ "metadata": { "annotations": { "berth.dev/deploy": "now" } } })).await;
    let looked_up = |shop: &Application| {
        // The platform's own look finds no such host.
        is(shop, "BuildSucceeded", "Unknown", "SourceUnknown")
            || is(shop, "BuildSucceeded", "False", "SourceUnreachable")
    };
    let shop = platform.until("shop", "the branch is looked up", looked_up).await;
    assert_eq!((active(&shop), condition(&shop, "Ready").0.as_str()), (first.clone(), "True"), "the old one serves on");
    platform.status(&api, "shop", source("2", Some("now"))).await;
    platform.until("shop", "the commit serves", |shop| active(shop) != first).await;
    let builds = platform.namespaced::<Build>().list(&ListParams::default()).await.unwrap().items;
    let mut commits: Vec<_> = builds.iter().filter_map(|build| build.spec.commit.as_deref()).collect();
    commits.sort_unstable();
    assert_eq!(commits, ["1".repeat(40), "2".repeat(40)], "what was pushed is built, and nothing else");

    // The same commit is built again where somebody wants that.
    platform.patch("shop", json!({ "metadata": { "annotations": { "berth.dev/deploy": "again" } } })).await;
    platform.status(&api, "shop", source("2", Some("again"))).await;
    platform
        .eventually("it is built again", async || {
            let builds = platform.namespaced::<Build>().list(&ListParams::default()).await.unwrap().items;
            builds.iter().any(|build| build.spec.trigger == crds::build::Trigger::Manual)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_can_be_stopped_and_scaled_and_a_plan_in_use_stays() {
    let platform = Platform::new().await;
    platform.create(&platform.namespaced::<Application>(), prebuilt("web", "app:1")).await;
    platform.until("web", "it runs", |web| is(web, "Ready", "True", "Running")).await;
    platform.patch("web", json!({ "spec": { "running": false } })).await;
    platform.until("web", "it is stopped", |web| is(web, "Ready", "True", "Stopped")).await;
    platform.eventually("no instance is left", async || platform.instances().await.is_empty()).await;
    platform.patch("web", json!({ "spec": { "running": true, "instances": 4 } })).await;
    let four = |web: &Application| web.status.as_ref().is_some_and(|status| status.instances.ready == 4);
    platform.until("web", "four run", four).await;
    let plans = platform.cluster::<crds::Plan>();
    plans.delete("small", &DeleteParams::default()).await.unwrap();
    let plan = plans.get("small").await.unwrap();
    assert!(plan.metadata.deletion_timestamp.is_some(), "it goes when nothing uses it");
    let instances = platform.namespaced::<Instance>().list(&ListParams::default()).await.unwrap().items;
    assert!(instances.iter().all(|instance| instance.metadata.deletion_timestamp.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_placed_at_once() {
    let platform = Platform::new().await;
    // The first one waits for the node to be known as ready.
    platform.create(&platform.namespaced::<Application>(), prebuilt("first", "app:1")).await;
    platform.until("first", "it runs", |web| is(web, "Ready", "True", "Running")).await;
    let mut quickest = crate::platform::PATIENCE;
    for name in ["a", "b", "c", "d", "e"] {
        let started = tokio::time::Instant::now();
        platform.create(&platform.namespaced::<Application>(), prebuilt(name, "app:1")).await;
        let mut changed = platform.world.changed();
        let placed = async {
            let key = controller::world::Key::new("default", name);
            while !platform.world.instances.of_application(&key).iter().any(|it| it.spec.node_name.is_some()) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(crate::platform::PATIENCE, placed).await.expect("it is placed in time");
        quickest = quickest.min(started.elapsed());
    }
    // Six writes, one after the other; a pause or a poll among them would show each time, and a busy machine does not.
    println!("placed after {quickest:?}");
    assert!(quickest < std::time::Duration::from_secs(1), "{quickest:?}");
}
