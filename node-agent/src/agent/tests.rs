//! What the loop does with assignments that are lost, and with those that come in pieces.

use std::collections::BTreeMap;

use node_protocol::{Assignment, BuildObservation, BuildTask, InstanceTask, RouteTask};

use super::*;
use crate::desired;
use crate::fake::{Fake, State};
use crate::laws::task;
use crate::machine::{ContainerState, Image};

/// Builds nothing.
struct NoBuilds;

impl Builder for NoBuilds {
    fn run(&self, _: &BuildTask, _: LogSink) {}

    fn forget(&self, _: &str) {}

    fn observe(&self) -> Vec<BuildObservation> {
        Vec::new()
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}

fn agent(machine: &Arc<Fake>, folder: &Path) -> Agent<Fake, Fake, NoBuilds> {
    let parts = (Arc::clone(machine), Arc::clone(machine), Arc::new(NoBuilds));
    let logs = BuildLogs::new(folder).unwrap();
    Agent::new("node-1", (80, 443), folder, parts, logs).unwrap().0
}

fn route(number: u32) -> node_protocol::Item {
    node_protocol::Item::Route(RouteTask {
        application_uid: number.to_string(),
        namespace: "acme".to_owned(),
        application: format!("app-{number}"),
        hosts: vec![format!("{number}.example.com")],
    })
}

fn routes(revision: u64, numbers: std::ops::Range<u32>) -> Assignment {
    let items = numbers.map(route).map(|item| (item.key(), item));
    Assignment { revision, items: items.collect() }
}

/// A machine on which an instance of ours runs.
fn running(task: &InstanceTask) -> State {
    let image = Image { id: "sha256:x".to_owned(), ..Image::default() };
    let spec = desired::container("node-1", task, &image);
    let container = Container {
        id: "c".to_owned(),
        name: spec.name,
        labels: spec.labels,
        state: ContainerState::Running,
        started_at: None,
        finished_at: None,
        exit_code: None,
        out_of_memory: false,
        image: image.id,
        address: Some([10, 0, 0, 2].into()),
    };
    State { containers: BTreeMap::from([("c".to_owned(), container)]), ..State::default() }
}

/// Lets the agent plan and act, as often as its loop would within a while.
async fn act(agent: &mut Agent<Fake, Fake, NoBuilds>) {
    (agent.looked, agent.walled) = (true, true);
    agent.observed.listed(agent.containers.containers().await.unwrap(), Vec::new());
    for _ in 0..20 {
        agent.reconcile().await;
        while let Some(returned) = agent.errands.next().await {
            agent.returned(returned);
        }
    }
}

#[tokio::test]
async fn an_agent_that_has_lost_its_assignment_does_nothing_until_it_has_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("assignment.json"), b"{\"revi").unwrap();
    let task = task(0, 0, 0, node_protocol::RunState::Run);
    let machine = Arc::new(Fake::new("node-1", running(&task)));
    let mut agent = agent(&machine, folder.path());
    act(&mut agent).await;
    assert_eq!(machine.state().containers.len(), 1);
    assert_eq!(machine.state().live, None, "no route was taken away");
    assert_eq!(agent.board.held().revision, None, "the whole is asked for");
    agent.assign(routes(5, 0..1).whole());
    act(&mut agent).await;
    assert!(machine.state().live.is_some());
    assert_eq!(machine.state().containers.len(), 1, "what is not assigned has its time of grace from now on");
}

#[tokio::test]
async fn nothing_is_started_before_the_firewall_was_put_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Arc::new(Fake::new("node-1", State::default()));
    let mut agent = agent(&machine, folder.path());
    agent.assign(routes(5, 0..1).whole());
    agent.looked = true;
    agent.reconcile().await;
    assert!(agent.errands.is_empty());
    act(&mut agent).await;
    assert!(machine.state().live.is_some());
}

#[tokio::test]
async fn an_assignment_in_pieces_counts_when_all_of_it_has_come() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Arc::new(Fake::new("node-1", State::default()));
    let mut agent = agent(&machine, folder.path());
    agent.assign(routes(5, 0..3).whole());
    let next = routes(6, 10..20);
    for piece in next.whole().pieces(1) {
        assert_eq!((agent.board.held().revision, agent.desired.routes.len()), (Some(5), 3));
        agent.assign(piece);
    }
    assert_eq!(agent.board.held().digest, Some(next.digest()));
    assert_eq!(agent.desired.routes.len(), 10);

    // The connection breaks in the middle; the next one goes on from what was accepted.
    agent.assign(routes(7, 0..4).whole().pieces(1).remove(0));
    let after = routes(8, 10..12);
    agent.assign(after.since(&next));
    assert_eq!(agent.board.held().digest, Some(after.digest()));
    assert_eq!(agent.board.held().misfits, 0);
}
