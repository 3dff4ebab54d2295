//! Machines become nodes, each token once.

use futures::future::join_all;
use http::StatusCode;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::agent::Machine;
use crate::platform::Platform;

const REGISTER: &str = "/api/internal/paas/nodes/register";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_who_show_one_token_one_joins() {
    let platform = Platform::new().await;
    let token = platform.token(1).await;
    let machines: Vec<Machine> = (0..100).map(|number| Machine::new(&format!("node-{number}"))).collect();
    let tries = machines.iter().map(|machine| {
        let body = Some(machine.registration(&token));
        platform.answer(None, "POST", REGISTER, body)
    });
    let answers = join_all(tries).await;
    let joined: Vec<&Value> =
        answers.iter().filter(|(code, _)| *code == StatusCode::OK).map(|(_, body)| body).collect();
    assert_eq!(joined.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|(code, _)| [StatusCode::OK, StatusCode::FORBIDDEN].contains(code)), "{answers:?}");
    let nodes = platform.cluster::<crds::Node>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(nodes.len(), 1);
    assert_eq!((nodes[0].uid().as_deref(), nodes[0].spec.region.as_str()), (joined[0]["uid"].as_str(), "eu-1"));
    let secrets = platform.namespaced::<Secret>(crds::SYSTEM_NAMESPACE).list(&ListParams::default()).await.unwrap();
    assert_eq!(secrets.items.len(), 0, "the token is burnt");

    // Its answer was lost on the way: it asks again, and nobody else can in its place.
    let winner = machines.iter().find(|machine| machine.name == nodes[0].name_any()).unwrap();
    let (code, again) = platform.answer(None, "POST", REGISTER, Some(winner.registration(&token))).await;
    assert_eq!((code, &again), (StatusCode::OK, joined[0]));
    let (code, refused) =
        platform.answer(None, "POST", REGISTER, Some(Machine::new(&winner.name).registration(&token))).await;
    assert_eq!((code, refused["reason"].as_str()), (StatusCode::CONFLICT, Some("Conflict")), "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("--name"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_three_lets_three_in() {
    let platform = Platform::new().await;
    let token = platform.token(3).await;
    let machines: Vec<Machine> = (0..10).map(|number| Machine::new(&format!("node-{number}"))).collect();
    let tries =
        machines.iter().map(|machine| platform.answer(None, "POST", REGISTER, Some(machine.registration(&token))));
    let joined = join_all(tries).await.into_iter().filter(|(code, _)| *code == StatusCode::OK).count();
    assert_eq!(joined, 3);
}

#[tokio::test]
async fn what_is_wrong_with_a_registration_is_said() {
    let platform = Platform::new().await;
    let token = platform.token(1).await;
    let good = Machine::new("good").registration(&token);
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, expected, says) in [
        (with("name", json!("Not A Name")), StatusCode::BAD_REQUEST, "name"),
        (with("name", json!("../../secrets")), StatusCode::BAD_REQUEST, "name"),
        (with("publicKey", json!("AAAA")), StatusCode::BAD_REQUEST, "publicKey"),
        (with("tokenSecret", json!("0".repeat(64))), StatusCode::FORBIDDEN, "join token"),
        (with("tokenSecret", json!("")), StatusCode::FORBIDDEN, "join token"),
        (with("tokenId", json!("ffffffffff")), StatusCode::FORBIDDEN, "join token"),
        (with("tokenId", json!("../x")), StatusCode::FORBIDDEN, "join token"),
        (json!({}), StatusCode::BAD_REQUEST, "missing field"),
    ] {
        let (code, answer) = platform.answer(None, "POST", REGISTER, Some(body.clone())).await;
        assert_eq!(code, expected, "{body} {answer}");
        assert!(answer["message"].as_str().unwrap().contains(says), "{answer}");
        assert_eq!(
            (answer["kind"].as_str(), answer["code"].as_u64()),
            (Some("Status"), Some(expected.as_u16().into()))
        );
    }
    let (code, _) = platform.answer(None, "POST", REGISTER, Some(good)).await;
    assert_eq!(code, StatusCode::OK, "none of that has burnt it");
    let (code, pem) = platform.answer(None, "GET", "/api/internal/paas/ca", None).await;
    assert_eq!(code, StatusCode::OK);
    assert!(pem.as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
}
