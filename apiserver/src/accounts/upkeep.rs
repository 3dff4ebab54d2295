//! Makes for ever what has ended: sessions and tokens of people who are gone, locked out or have another password do not
//! come back when the person does. What ended long ago is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Accounts;
use super::person::Person;
use crate::error::Error;
use crate::server::State;
use crate::store::{Change, Ended, Event, Purpose, Watch};

/// How often everything is looked at, whatever was heard.
const ROUND: Duration = Duration::from_mins(1);
/// What has ended is listed for so long, for those who ask what somebody had.
const KEPT: Duration = Duration::from_hours(24 * 30);
/// Sessions are listed nowhere. Whoever signs in all the time leaves no more behind than fits into this.
const SESSIONS_KEPT: Duration = Duration::from_mins(5);

/// Looks after sessions and tokens until shutdown.
pub(crate) async fn follow(state: &Arc<State>) {
    let Some(accounts) = &state.accounts else { return };
    let mut watch = accounts.watch();
    loop {
        let mut locked_out = BTreeMap::new();
        let heard = async {
            match &mut watch {
                Some(watch) => watch.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = tokio::time::sleep(ROUND) => {}
            events = heard => match events {
                // Also one who was let in again at once: what was begun before has ended.
                Ok(events) => locked_out.extend(events.iter().filter_map(|event| locks_out(event))),
                Err(_evicted) => watch = None,
            },
        }
        if watch.is_none() {
            watch = accounts.watch();
        }
        if let Err(error) = accounts.tidy(&locked_out).await {
            tracing::warn!(%error, "sessions that have ended could not be marked so; it is tried again");
        }
    }
}

/// Whom a change locks out, and when.
fn locks_out(event: &Event) -> Option<(Arc<str>, Timestamp)> {
    let out = event.change == Change::Deleted || Person::read(&event.object).is_none_or(|person| person.disabled);
    out.then(|| (Arc::clone(&event.object.name), event.object.modified))
}

impl Accounts {
    fn watch(&self) -> Option<Watch> {
        self.store.watch_across_namespaces(self.people, self.store.revision()).ok()
    }

    async fn tidy(&self, locked_out: &BTreeMap<Arc<str>, Timestamp>) -> Result<(), Error> {
        let now = self.clock.now();
        let tokens = self.store.tokens();
        let all = tokens.list();
        // Of what another server has committed, a token may be known here before its person is.
        if self.store.refresh().await.is_err() {
            return Ok(());
        }
        for token in all {
            if token.purpose == Purpose::Standing || !token.is_valid(now) {
                continue;
            }
            let locked_out = locked_out.get(&*token.user).is_some_and(|at| token.created <= *at);
            if locked_out || self.is_idle(&token) || self.standing(&token).is_none() {
                tokens.revoke(&token.id).await?;
            }
        }
        tokens.forget(Ended { before: now - KEPT, sessions_before: now - SESSIONS_KEPT }).await?;
        Ok(())
    }
}
