//! What Docker itself is asked for: containers under their own names, and what they have written.

use std::collections::BTreeMap;
use std::time::Duration;

use node_agent::docker::Docker;
use node_agent::labels;
use node_agent::machine::{ContainerSpec, Containers as _, Error, NetworkSpec};

use crate::node::docker_host;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_name_is_ones_own_only_with_the_same_uid_and_what_is_written_is_counted() {
    let node = format!("node-{}", uuid::Uuid::new_v4());
    let docker = Docker::new(&docker_host(), &node).unwrap();
    let name = labels::network_name(&node, "engine");
    let network = NetworkSpec { bridge: labels::bridge_name(&name), name: name.clone(), labels: BTreeMap::new() };
    docker.ensure_network(&network).await.unwrap();
    let script = "head -c 5000000 /dev/zero > /written; sleep 600";
    let spec = |uid: &str| ContainerSpec {
        name: labels::container_name(&node, "acme", "web", "u1"),
        image: "berth/debian:12".to_owned(),
        command: Some(["/bin/bash", "-c", script].map(str::to_owned).to_vec()),
        env: Vec::new(),
        labels: BTreeMap::from([(labels::UID.to_owned(), uid.to_owned())]),
        network: name.clone(),
        aliases: Vec::new(),
        cpu_millis: 500,
        memory_bytes: 64 << 20,
        read_only: false,
    };
    let id = docker.create(&spec("u1")).await.unwrap();
    assert_eq!(docker.create(&spec("u1")).await, Ok(id.clone()), "made already");
    let taken = docker.create(&spec("u2")).await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");

    docker.start(&id).await.unwrap();
    let counted = async {
        while docker.written().await.unwrap().get(&id).is_none_or(|bytes| *bytes < 5_000_000) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), counted).await.expect("what it wrote is counted");
    docker.remove(&id).await.unwrap();
    docker.remove_network(&name).await.unwrap();
}
