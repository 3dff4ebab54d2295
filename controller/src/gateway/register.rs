//! `POST …/nodes/register`: a machine with a join token becomes a node.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use crds::node::NodeSpec;
use crds::{Node, names};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use node_protocol::{Registration, RegistrationAnswer};
use tokio::time::Instant;

use super::error::Refused;
use super::tokens::{self, Burn};
use super::{Gateway, identity};

/// How many registrations are let in at once: a rack that is switched on.
const BURST: f64 = 200.0;
/// How many a second after that. Each costs a few requests to the API server, and anybody may ask.
const PER_SECOND: f64 = 20.0;
/// How often the Node is tried to be made once its token is burnt: the token cannot be shown again.
const CREATE_TRIES: u32 = 5;

/// Lets so many through and then so many a second.
pub(super) struct Throttle(Mutex<Option<(Instant, f64)>>);

impl Throttle {
    pub(super) fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, left) = state.unwrap_or((now, BURST));
        let left = (left + now.duration_since(then).as_secs_f64() * PER_SECOND).min(BURST);
        let admitted = left >= 1.0;
        *state = Some((now, if admitted { left - 1.0 } else { left }));
        admitted
    }
}

/// Answers a registration.
pub(super) async fn register(
    State(gateway): State<Gateway>,
    body: Result<Json<Registration>, JsonRejection>,
) -> Result<Json<RegistrationAnswer>, Refused> {
    if !gateway.0.throttle.admits(tokio::time::Instant::now()) {
        return Err(Refused::too_many("too many nodes try to register", 5));
    }
    let Json(registration) = body.map_err(|rejection| Refused::bad_request(rejection.body_text()))?;
    if !names::is_label(&registration.name) {
        let message = format!("name: {:?} must be 1 to 63 of a-z, 0-9 and -", registration.name);
        return Err(Refused::bad_request(message));
    }
    if identity::public_key(&registration.public_key).is_none() {
        return Err(Refused::bad_request("publicKey: must be an Ed25519 public key, base64 of 32 bytes"));
    }
    let nodes: Api<Node> = Api::all(gateway.client().clone());
    // The answer to an earlier try may have been lost on the way: whoever has the key has joined already.
    if let Some(node) = nodes.get_opt(&registration.name).await? {
        return joined(&node, &registration);
    }
    let now = gateway.clock().now();
    // One after the other: those who would lose the race for a token's last use need not ask the API server first.
    let burnt = {
        let _turn = gateway.0.joining.lock().await;
        tokens::burn(gateway.client(), &registration.token_id, &registration.token_secret, now).await?
    };
    let terms = match burnt {
        Burn::Burnt(terms) => terms,
        Burn::Gone => match nodes.get_opt(&registration.name).await? {
            Some(node) => return joined(&node, &registration),
            None => return Err(refused_token()),
        },
        Burn::Refused => return Err(refused_token()),
    };
    let spec = NodeSpec { region: terms.region, public_key: Some(registration.public_key.clone()), ..empty_spec() };
    let epoch = gateway.hub().world.nodes.epoch();
    let node = create(&nodes, &Node::new(&registration.name, spec)).await?;
    // The agent connects at once: it must be known by then.
    gateway.hub().absorb(node.clone(), epoch);
    tracing::info!(node = registration.name, token = registration.token_id, "a node has joined");
    joined(&node, &registration)
}

fn refused_token() -> Refused {
    Refused::forbidden("the join token is wrong, was used already or has expired: `berth node token` makes another")
}

fn empty_spec() -> NodeSpec {
    serde_json::from_value(serde_json::json!({})).expect("every field of a node has a default")
}

async fn create(nodes: &Api<Node>, wanted: &Node) -> Result<Node, Refused> {
    let mut pause = Duration::from_millis(50);
    for _ in 1..CREATE_TRIES {
        match nodes.create(&PostParams::default(), wanted).await {
            Ok(node) => return Ok(node),
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(nodes.get(&wanted.name_any()).await?),
            Err(kube::Error::Api(status)) if status.code == 422 => return Err(kube::Error::Api(status).into()),
            Err(error) => tracing::warn!(%error, "the node cannot be made; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    Ok(nodes.create(&PostParams::default(), wanted).await?)
}

/// The answer for a Node that exists: to who has its key, and to nobody else.
fn joined(node: &Node, registration: &Registration) -> Result<Json<RegistrationAnswer>, Refused> {
    let theirs = identity::public_key(&registration.public_key);
    let same = node.spec.public_key.as_deref().and_then(identity::public_key) == theirs;
    if !same {
        return Err(Refused::conflict(format!(
            "there is a Node {:?} already, with another key: give this one another name (--name), or delete the old one \
             first (kubectl delete node.berth.dev {})",
            registration.name, registration.name
        )));
    }
    Ok(Json(RegistrationAnswer {
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        region: node.spec.region.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let throttle = Throttle::new();
        let start = Instant::now();
        let admitted =
            |seconds: u64| (0..500).filter(|_| throttle.admits(start + Duration::from_secs(seconds))).count();
        assert_eq!(admitted(0), 200);
        assert_eq!(admitted(1), 20);
        assert_eq!(admitted(3600), 200);
    }
}
