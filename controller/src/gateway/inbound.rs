//! What an agent says: checked against what the node was given, and passed on. The same for WebSocket and poll.

use std::sync::Arc;

use crds::instance::InstancePhase;
use crds::{Build, Instance, Node};
use jiff::Timestamp;
use kube::ResourceExt;
use node_protocol::{Down, Heartbeat, Observation, RouteObservation, Up};

use super::peer::Peer;
use super::writer::{Subject, is_open};
use super::{Gateway, report};
use crate::world::Key;

/// How long a build waits for the Secret that it signs in with: people apply both at once, in any order.
const SECRET_SECONDS: i64 = 60;

fn waits_since(build: &Build) -> Option<Timestamp> {
    build.metadata.creation_timestamp.as_ref().map(|created| created.0)
}

impl Gateway {
    /// Takes in one message and says what to answer. Saying hello is the connection's own business.
    pub(super) async fn hear(&self, peer: &Peer, message: Up) -> Option<Down> {
        match message {
            Up::Hello(_) | Up::Applied { .. } => None,
            Up::Observed(observation) => {
                self.metrics().observed();
                self.observed(peer, observation);
                None
            }
            Up::Heartbeat(beat) => {
                self.beat(peer, &beat);
                self.lacks_word(peer).then_some(Down::Observe)
            }
            Up::BuildLog { build, offset, text } => self.keep_log(peer, build, offset, &text).await,
            Up::Unknown { message } => {
                tracing::info!(node = peer.name(), message, "the agent does not know a message of ours");
                None
            }
        }
    }

    fn observed(&self, peer: &Peer, observation: Observation) {
        let world = &self.hub().world;
        for seen in observation.instances {
            let key = Key::new(&*seen.namespace, &*seen.name);
            let Some(instance) = world.instances.get(&key).filter(|object| object.uid().as_deref() == Some(&seen.uid))
            else {
                // It is gone, or not known yet: then the agent could not have been told of it.
                continue;
            };
            if instance.spec.node_name.as_deref() != Some(peer.name()) {
                self.refuse(peer, "instance", &key);
                continue;
            }
            peer.writer().add(Subject::Instance(key), &seen.uid, report::instance(&seen));
        }
        for seen in observation.builds {
            let key = Key::new(&*seen.namespace, &*seen.name);
            let Some(build) = world.builds.get(&key).filter(|object| object.uid().as_deref() == Some(&seen.uid)) else {
                continue;
            };
            if build.status.as_ref().and_then(|status| status.node.as_deref()) != Some(peer.name()) {
                self.refuse(peer, "build", &key);
                continue;
            }
            if is_open(&build) {
                peer.writer().add(Subject::Build(key), &seen.uid, report::build(&seen));
            }
        }
        if observation.full {
            self.forget_routes(peer, &observation.routes);
        }
        for seen in observation.routes {
            let key = Key::new(&*seen.namespace, &*seen.application);
            let Some(application) =
                world.applications.get(&key).filter(|object| object.uid().as_deref() == Some(&seen.application_uid))
            else {
                continue;
            };
            let reported = application.status.as_ref().is_some_and(|status| status.routes.contains_key(peer.name()));
            let here = |instance: &Arc<crds::Instance>| instance.spec.node_name.as_deref() == Some(peer.name());
            if !reported && !world.instances.of_application(&key).iter().any(here) {
                // The last word on a route whose instances went away in the meantime is no trespass.
                if seen.ready || seen.error.is_some() {
                    self.refuse(peer, "route", &key);
                }
                continue;
            }
            let fields = report::route(peer.name(), &seen);
            peer.writer().add(Subject::Application(key), &seen.application_uid, fields);
        }
    }

    /// A node that tells everything and leaves a route out does not have it any more.
    fn forget_routes(&self, peer: &Peer, said: &[RouteObservation]) {
        for application in self.hub().world.applications.all() {
            let Some(uid) = application.uid() else { continue };
            let reported = application.status.as_ref().is_some_and(|status| status.routes.contains_key(peer.name()));
            if reported && !said.iter().any(|route| route.application_uid == uid) {
                let fields = report::no_route(peer.name());
                peer.writer().add(Subject::Application(Key::of(&*application)), &uid, fields);
            }
        }
    }

    /// Whether something that a node has said was overwritten because it was silent: an agent says nothing twice by itself.
    fn lacks_word(&self, peer: &Peer) -> bool {
        let unknown = |instance: &Arc<Instance>| {
            instance.status.as_ref().is_some_and(|status| status.phase == InstancePhase::Unknown)
        };
        self.hub().world.instances.on_node(peer.name()).iter().any(unknown)
    }

    fn beat(&self, peer: &Peer, beat: &Heartbeat) {
        let fields = report::node(beat, self.clock().now());
        peer.writer().add(Subject::Node(Key::cluster(peer.name())), peer.uid(), fields);
        for instance in self.hub().world.instances.on_node(peer.name()) {
            if let Some(uid) = instance.uid()
                && let Some(sample) = beat.instances.get(&uid)
            {
                peer.writer().add(Subject::Instance(Key::of(&*instance)), &uid, report::usage(sample));
            }
        }
    }

    async fn keep_log(&self, peer: &Peer, build: String, offset: u64, text: &str) -> Option<Down> {
        let index = self.index()?;
        let Some(object) = index.build(&build) else {
            // A build that is gone needs no log: the agent may forget it.
            return Some(Down::LogKept { bytes: offset + text.len() as u64, build });
        };
        if object.status.as_ref().and_then(|status| status.node.as_deref()) != Some(peer.name()) {
            self.refuse(peer, "log", &Key::of(&**object));
            return None;
        }
        match self.series().append_build_log(&build, offset, text.as_bytes()).await {
            Ok(kept) => {
                self.metrics().log_bytes("kept", text.len() as u64);
                Some(Down::LogKept { build, bytes: kept })
            }
            Err(error) => {
                // Without an answer the agent sends it again.
                tracing::warn!(build, error = &error as &dyn std::error::Error, "a build's log cannot be kept");
                None
            }
        }
    }

    /// A node says something about what it was not given: an agent that was taken over looks like this.
    fn refuse(&self, peer: &Peer, what: &'static str, key: &Key) {
        self.metrics().refused(what);
        tracing::warn!(node = peer.name(), what, %key, "a node reports on what it was not given");
    }

    /// Says on the objects themselves why they cannot be assigned.
    pub(super) fn tell_withheld(
        &self,
        peer: &Peer,
        assigned: &super::assign::Assigned,
        told: &node_protocol::Assignment,
    ) {
        let Some(index) = self.index() else { return };
        for withheld in &assigned.withheld {
            if told.items.contains_key(&withheld.key) {
                continue;
            }
            match &withheld.key {
                node_protocol::ItemKey::Instance(uid) => {
                    if let Some(instance) = index.instance(uid) {
                        let fields = report::withheld(withheld.reason, &withheld.message);
                        peer.writer().add(Subject::Instance(Key::of(&**instance)), uid, fields);
                    }
                }
                node_protocol::ItemKey::Build(uid) => {
                    let now = self.clock().now();
                    if let Some(build) = index.build(uid)
                        && waits_since(build).is_some_and(|since| now.duration_since(since).as_secs() >= SECRET_SECONDS)
                    {
                        let fields = report::unbuildable(&withheld.message, now);
                        peer.writer().add(Subject::Build(Key::of(&**build)), uid, fields);
                    }
                }
                node_protocol::ItemKey::Route(_) | node_protocol::ItemKey::Image(_) => {}
            }
        }
    }

    /// The node as it is known now, if it still has the key that the connection was opened with.
    pub(super) fn still_trusted(&self, peer: &Peer) -> Option<Arc<Node>> {
        let node = self.hub().world.nodes.get(&Key::cluster(peer.name()))?;
        let same = node.uid().as_deref() == Some(peer.uid()) && node.spec.public_key.as_deref() == Some(peer.key());
        same.then_some(node)
    }
}
