//! Waiting for a value, with a limit: never for a time.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// Asks until the answer is `Ok`; after `limit` the last error is the test's.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() >= deadline => bail!("{what}: not after {} s: {error:#}", limit.as_secs()),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A limit far beyond what anything should take, since all tests share two processors.
pub const fn within(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
