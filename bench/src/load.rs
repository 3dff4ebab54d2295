//! Clients that send one request after the other, all at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figures::{Figures, Times};

/// Something that can be asked again and again. No two calls of a load have the same number.
pub(crate) trait Client: Send + 'static {
    fn call(&mut self, number: u64) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// How long a load runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Period {
    /// Not counted: connections, caches and clock speeds settle.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// Every client asks as fast as it is answered. A failed request fails the measurement.
pub(crate) async fn closed<C: Client>(clients: Vec<C>, period: Period) -> anyhow::Result<Figures> {
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now() + period.warm_up;
    let end = begin + period.measured;
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let next = Arc::clone(&next);
        tasks.spawn(async move {
            let mut times = Times::with_capacity(65_536);
            loop {
                let asked = Instant::now();
                if asked >= end {
                    return anyhow::Ok(times);
                }
                client.call(next.fetch_add(1, Ordering::Relaxed)).await?;
                let answered = Instant::now();
                if asked >= begin && answered <= end {
                    times.add(answered - asked);
                }
            }
        });
    }
    let mut all = Times::default();
    while let Some(ended) = tasks.join_next().await {
        all.append(ended??);
    }
    all.figures(period.measured)
}

/// The clients share `count` calls among them.
pub(crate) async fn fill<C: Client>(clients: Vec<C>, count: u64) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let next = Arc::clone(&next);
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                client.call(number).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        seen: Arc<AtomicU64>,
        broken: bool,
    }

    impl Client for Fake {
        async fn call(&mut self, number: u64) -> anyhow::Result<()> {
            self.seen.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            anyhow::ensure!(!(self.broken && number == 3), "broken");
            Ok(())
        }
    }

    fn clients(broken: bool) -> (Arc<AtomicU64>, Vec<Fake>) {
        let seen = Arc::new(AtomicU64::new(0));
        let clients = (0..4).map(|_| Fake { seen: Arc::clone(&seen), broken }).collect();
        (seen, clients)
    }

    #[tokio::test(start_paused = true)]
    async fn the_warm_up_does_not_count() {
        let (seen, clients) = clients(false);
        let period = Period { warm_up: Duration::from_secs(1), measured: Duration::from_secs(1) };
        let figures = closed(clients, period).await.unwrap();
        assert!((360.0..=400.0).contains(&figures.rate), "{figures:?}");
        assert!(seen.load(Ordering::Relaxed) >= 720);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_request_fails_the_measurement() {
        let period = Period { warm_up: Duration::ZERO, measured: Duration::from_secs(1) };
        assert!(closed(clients(true).1, period).await.is_err());
        let (seen, clients) = clients(false);
        fill(clients, 10).await.unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 10);
    }
}
