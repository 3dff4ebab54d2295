//! From being told to stop to stopping: `/readyz` says no at once, everything else ends a little later, so that a balancer
//! in front can send its requests elsewhere first.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// A token that is cancelled `delay` after `told`.
pub(crate) fn after(told: &CancellationToken, delay: Duration) -> CancellationToken {
    let (told, stop) = (told.clone(), CancellationToken::new());
    let stopping = stop.clone();
    apiserver::task::spawn("stopping", async move {
        told.cancelled().await;
        tokio::time::sleep(delay).await;
        stopping.cancel();
    });
    stop
}

/// The condition of readiness.
pub(crate) fn check(told: &CancellationToken) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
    let told = told.clone();
    move || if told.is_cancelled() { Err("the server is stopping".to_owned()) } else { Ok(()) }
}
