//! What takes time: it runs beside the loop, one task a subject, and comes back as what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

use crate::execute::{Done, Execution};
use crate::garbage::{self, Needed};
use crate::machine::{Container, Containers, Error, Network, Router};
use crate::observed::Subject;
use crate::plan::Step;

/// An image that cannot go yet belongs to a container that is being removed: seconds.
const COLLECT_AGAIN: Duration = Duration::from_secs(15);

/// What comes back.
pub(super) enum Returned {
    Done(Done),
    Listed(Result<(Vec<Container>, Vec<Network>), Error>),
    Inspected(String, Result<Option<Container>, Error>),
    Written(Result<BTreeMap<String, u64>, Error>),
    Collected {
        /// Whether it is to be tried again.
        left: bool,
    },
    /// It ended badly, and was about nothing in particular.
    Lost,
}

/// What runs beside the loop.
pub(super) struct Errands<C> {
    containers: Arc<C>,
    tasks: JoinSet<Returned>,
    /// What a task that ended badly was about.
    subjects: BTreeMap<Id, Subject>,
    listing: bool,
}

impl<C: Containers> Errands<C> {
    /// None yet.
    pub(super) fn new(containers: Arc<C>) -> Self {
        Self { containers, tasks: JoinSet::new(), subjects: BTreeMap::new(), listing: false }
    }

    /// Carries out the steps about one subject.
    pub(super) fn carry_out<R: Router>(&mut self, execution: Execution<C, R>, subject: Subject, steps: Vec<Step>) {
        let about = subject.clone();
        let task = self.tasks.spawn(async move { Returned::Done(execution.run(about, steps).await) });
        self.subjects.insert(task.id(), subject);
    }

    /// Looks at everything anew, unless that is under way.
    pub(super) fn list(&mut self) {
        if self.listing {
            return;
        }
        self.listing = true;
        let containers = Arc::clone(&self.containers);
        self.tasks.spawn(async move {
            let both = async { Ok((containers.containers().await?, containers.networks().await?)) };
            Returned::Listed(both.await)
        });
    }

    /// Looks at one container anew.
    pub(super) fn inspect(&mut self, id: String) {
        let containers = Arc::clone(&self.containers);
        self.tasks.spawn(async move {
            let container = containers.container(&id).await;
            Returned::Inspected(id, container)
        });
    }

    /// Asks what containers have written.
    pub(super) fn weigh(&mut self) {
        let containers = Arc::clone(&self.containers);
        self.tasks.spawn(async move { Returned::Written(containers.written().await) });
    }

    /// Removes images that nothing needs.
    pub(super) fn collect(&mut self, needed: Needed) {
        let containers = Arc::clone(&self.containers);
        self.tasks.spawn(async move {
            let left = garbage::collect(&*containers, &needed).await;
            if left {
                tokio::time::sleep(COLLECT_AGAIN).await;
            }
            Returned::Collected { left }
        });
    }

    /// The next that comes back; `None` if nothing runs.
    pub(super) async fn next(&mut self) -> Option<Returned> {
        let ended = self.tasks.join_next_with_id().await?;
        Some(self.returned(ended))
    }

    /// One that is back already.
    pub(super) fn try_next(&mut self) -> Option<Returned> {
        let ended = self.tasks.try_join_next_with_id()?;
        Some(self.returned(ended))
    }

    /// A panic fails what it was about and not the agent.
    fn returned(&mut self, ended: Result<(Id, Returned), JoinError>) -> Returned {
        match ended {
            Ok((task, returned)) => {
                self.subjects.remove(&task);
                if matches!(returned, Returned::Listed(_)) {
                    self.listing = false;
                }
                returned
            }
            Err(error) => {
                tracing::error!(%error, "a task ended badly");
                self.listing = false;
                let Some(subject) = self.subjects.remove(&error.id()) else { return Returned::Lost };
                let error = Some(Error::Refused("the agent's own step ended badly: see its log".to_owned()));
                Returned::Done(Done { subject, outcomes: Vec::new(), error })
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}
