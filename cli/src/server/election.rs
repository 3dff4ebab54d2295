//! Which of several servers leads: whoever holds a Lease, as with Kubernetes' own controllers.
//!
//! Every change of the Lease names the version that it was read at, so that of two who want it one gets it. Whether a
//! holder is gone is judged by how long its Lease has not changed on this server's own clock: the clocks of the servers
//! need not agree. A leader that cannot renew stops before another one can begin.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// The Lease's name in the system's namespace.
const LEASE: &str = "berth-leader";
/// Where other servers reach the leader.
const ADDRESS: &str = "berth.dev/address";
/// A Lease that has not changed for this long is nobody's. Longer than a database's restart or failover usually takes.
const DURATION: Duration = Duration::from_secs(12);
/// A leader that could not renew for this long stops. What is left until [`DURATION`] is for stopping.
const DEADLINE: Duration = Duration::from_secs(8);
/// How often it is renewed, and how often others look.
const PERIOD: Duration = Duration::from_secs(2);
/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(3);

/// A server that would lead.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    /// A name that no other server has, nor this one after a restart.
    name: String,
    address: String,
    /// Where the leader is reached, while there is one.
    leader: watch::Sender<Option<String>>,
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// `address` is the URL at which the other servers reach this one.
    pub(crate) fn new(client: Client, address: String, leader: watch::Sender<Option<String>>) -> Self {
        let name = format!("{address}_{}", uuid::Uuid::new_v4());
        let leases = Api::namespaced(client, crds::SYSTEM_NAMESPACE);
        Self { leases, name, address, leader, seen: None }
    }

    /// Leads whenever it can, until `shutdown`: `lead` is started with a token that ends its term. The next term begins
    /// only after it has ended.
    pub(crate) async fn run<L>(mut self, shutdown: CancellationToken, mut lead: L) -> anyhow::Result<()>
    where
        L: FnMut(CancellationToken) -> JoinHandle<anyhow::Result<()>>,
    {
        while !shutdown.is_cancelled() {
            let asked = Instant::now();
            match timeout(REQUEST_MAX, self.attempt()).await.unwrap_or_else(|_elapsed| Ok(None)) {
                Ok(Some(lease)) => {
                    tracing::info!(name = self.name, "this server leads");
                    let term = shutdown.child_token();
                    let mut office = lead(term.clone());
                    let held = self.hold(lease, asked, &term, &mut office).await;
                    term.cancel();
                    if !office.is_finished()
                        && let Err(error) = office.await.context("it stopped badly").flatten()
                    {
                        tracing::error!(error = format!("{error:#}"), "the leader's work failed");
                    }
                    self.leader.send_replace(None);
                    tracing::info!(name = self.name, "this server no longer leads");
                    if let Some(lease) = held {
                        self.release(lease).await;
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the lease could not be read or taken"),
            }
            shutdown.run_until_cancelled(sleep(PERIOD)).await;
        }
        Ok(())
    }

    /// Takes the Lease if it is nobody's.
    async fn attempt(&mut self) -> kube::Result<Option<Lease>> {
        let Some(mut lease) = self.leases.get_opt(LEASE).await? else {
            let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
            let mut lease = Lease { metadata, ..Lease::default() };
            self.claim(&mut lease, 0);
            return taken(self.leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, Instant::now()));
        }
        let quiet = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let promised = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let promised = promised.map_or(DURATION, Duration::from_secs);
        if holder.as_ref().is_some_and(|holder| *holder != self.name) && quiet < promised {
            let address = lease.metadata.annotations.as_ref().and_then(|all| all.get(ADDRESS)).cloned();
            self.leader.send_if_modified(|known| std::mem::replace(known, address.clone()) != address);
            return Ok(None);
        }
        self.leader.send_replace(None);
        self.claim(&mut lease, spec.lease_transitions.unwrap_or(0).saturating_add(1));
        taken(self.leases.replace(LEASE, &PostParams::default(), &lease).await)
    }

    /// Renews until the term is to end, from when the Lease was asked for. Returns the Lease if it is still this server's.
    async fn hold(
        &self,
        mut lease: Lease,
        mut renewed: Instant,
        term: &CancellationToken,
        office: &mut JoinHandle<anyhow::Result<()>>,
    ) -> Option<Lease> {
        loop {
            let deadline = renewed + DEADLINE;
            tokio::select! {
                () = term.cancelled() => return Some(lease),
                ended = &mut *office => {
                    let error = ended.context("it stopped badly").flatten().err().map(|error| format!("{error:#}"));
                    tracing::error!(error, "the leader's work has ended by itself");
                    return Some(lease);
                }
                () = sleep_until(deadline.min(Instant::now() + PERIOD)) => {}
            }
            if let Some(spec) = &mut lease.spec {
                spec.renew_time = Some(MicroTime(now()));
            }
            let parameters = PostParams::default();
            let renewing = self.leases.replace(LEASE, &parameters, &lease);
            let asked = Instant::now();
            match timeout_at(deadline.min(asked + REQUEST_MAX), renewing).await {
                // From when it was asked: others count from when it was written, which is later.
                Ok(Ok(newer)) => (lease, renewed) = (newer, asked),
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409 | 412) => {
                    lease = timeout_at(deadline, self.still_ours()).await.ok().flatten()?;
                }
                _ if Instant::now() >= deadline => {
                    tracing::warn!("the lease could not be renewed in time");
                    return None;
                }
                _ => {}
            }
        }
    }

    /// After a refusal: perhaps a renewal was written whose answer was lost.
    async fn still_ours(&self) -> Option<Lease> {
        let asked = timeout(REQUEST_MAX, self.leases.get_opt(LEASE)).await;
        let present = asked.ok()?.ok()??;
        let holder = present.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
        (holder == Some(&self.name)).then_some(present)
    }

    /// Lets others lead at once.
    async fn release(&self, mut lease: Lease) {
        if let Some(spec) = &mut lease.spec {
            (spec.holder_identity, spec.lease_duration_seconds) = (None, Some(1));
        }
        let parameters = PostParams::default();
        let releasing = self.leases.replace(LEASE, &parameters, &lease);
        if !matches!(timeout(REQUEST_MAX, releasing).await, Ok(Ok(_))) {
            tracing::debug!("the lease was not given back; it runs out by itself");
        }
    }

    fn claim(&self, lease: &mut Lease, transitions: i32) {
        let time = Some(MicroTime(now()));
        lease.metadata.annotations.get_or_insert_default().insert(ADDRESS.to_owned(), self.address.clone());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: time.clone(),
            renew_time: time,
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        });
    }
}

/// For people to read: nothing is decided by it.
fn now() -> Timestamp {
    controller::clock::Clock::system().now()
}

/// Somebody else was faster if the answer is a conflict.
fn taken(result: kube::Result<Lease>) -> kube::Result<Option<Lease>> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response, StatusCode};
    use kube::client::Body;

    use super::*;

    /// A server that gives the Lease to whoever asks first, and is gone then.
    async fn answer(request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let (status, body) = match *request.method() {
            Method::GET => (
                StatusCode::NOT_FOUND,
                br#"{"kind":"Status","status":"Failure","reason":"NotFound","code":404}"#.to_vec(),
            ),
            Method::POST => {
                (StatusCode::CREATED, request.into_body().collect_bytes().await.unwrap_or_default().to_vec())
            }
            _ => std::future::pending().await,
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        Ok(response)
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_cannot_be_renewed_ends_at_its_deadline() {
        let (leader, _led) = watch::channel(None);
        let client = Client::new(tower::service_fn(answer), "default");
        let candidate = Candidate::new(client, "https://here".to_owned(), leader);
        let shutdown = CancellationToken::new();
        let (stop, begun) = (shutdown.clone(), Instant::now());
        let lead = move |term: CancellationToken| {
            let stop = stop.clone();
            apiserver::task::spawn("office", async move {
                term.cancelled().await;
                stop.cancel();
                // Nobody asks how it went, and the server goes on.
                anyhow::bail!("cut off")
            })
        };
        timeout(DURATION * 2, candidate.run(shutdown, lead)).await.unwrap().unwrap();
        assert_eq!(begun.elapsed(), DEADLINE, "what is left until others may lead is for stopping");
    }
}
