//! What a container can reach: its own project, and neither another one, nor the host, nor the metadata address.

use std::process::Command;

use node_protocol::{InstanceTask, Item};
use tokio::net::TcpListener;

use crate::node::{Node, docker, eventually};

/// Whether a connection from inside a container comes about within so many seconds: many for one that should, as the
/// machine may be busy, and few for one that is dropped.
fn reaches(container: &str, address: &str, port: &str, seconds: &str) -> bool {
    let connect = format!("exec 3<>/dev/tcp/{address}/{port}");
    docker(&["exec", container, "/usr/bin/timeout", seconds, "/bin/bash", "-c", &connect]).is_ok()
}

fn iptables(arguments: &[&str]) -> String {
    let output = Command::new("/usr/sbin/iptables").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn in_place() -> bool {
    let forward = iptables(&["-S", "DOCKER-USER"]);
    let first = forward.lines().find(|line| line.starts_with("-A ")).unwrap_or_default();
    first == "-A DOCKER-USER -j BERTH-FORWARD"
        && iptables(&["-S", "INPUT"]).contains("-j BERTH-INPUT")
        && iptables(&["-S"]).contains("-A BERTH-INPUT -i bth-+ -j DROP")
        && iptables(&["-S"]).contains("-A BERTH-FORWARD -i bth-+ -o bth-+ -j DROP")
        && iptables(&["-S"]).contains("-A BERTH-FORWARD -d 10.0.0.0/8 -i bth-o+ -j REJECT")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projects_are_kept_from_each_other_the_host_and_the_metadata_address() {
    let mut node = Node::start_with(true).await;
    let asker = node.debian("asker-1", &["/bin/sleep", "600"]);
    let neighbour = InstanceTask { application: "neighbour".to_owned(), ..node.instance("neighbour-1") };
    let stranger = InstanceTask { namespace: format!("{}-b", node.namespace), ..node.instance("stranger-1") };
    let tasks = [asker, neighbour, stranger];
    node.gateway.assign(&tasks.clone().map(Item::Instance));
    let heard = node
        .gateway
        .until("all run", |heard| {
            let address = |task: &InstanceTask| heard.instances.get(&task.uid).is_some_and(|one| one.address.is_some());
            address(&tasks[0])
                && tasks[1..].iter().all(|task| heard.instances.get(&task.uid).is_some_and(|one| one.ready))
        })
        .await;
    let id = heard.instances[&tasks[0].uid].container_id.clone().unwrap();
    let at = |task: &InstanceTask| {
        let address = heard.instances[&task.uid].address.clone().unwrap();
        address.rsplit_once(':').unwrap().0.to_owned()
    };
    eventually("the rules are in place", in_place).await;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let host_port = listener.local_addr().unwrap().port().to_string();
    let gateway =
        docker(&["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", &id]).unwrap();
    let check = |when: &str| {
        assert!(reaches(&id, &at(&tasks[1]), "8080", "30"), "{when}: its own project");
        assert!(reaches(&id, "neighbour", "8080", "30"), "{when}: its own project by name");
        assert!(!reaches(&id, &at(&tasks[2]), "8080", "2"), "{when}: another project");
        assert!(!reaches(&id, &gateway, &host_port, "2"), "{when}: the host");
        assert!(!reaches(&id, "169.254.169.254", "80", "2"), "{when}: the metadata address");
    };
    tokio::task::block_in_place(|| check("at first"));

    // The fault that most firewalls of this kind miss: somebody flushes.
    iptables(&["-F", "BERTH-INPUT"]);
    iptables(&["-F", "DOCKER-USER"]);
    eventually("the rules are back", in_place).await;
    tokio::task::block_in_place(|| check("after a flush"));
    node.clear(&tasks).await;
}
