//! Constant load on one address: every request that does not get a good answer is a finding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;

use crate::Platform;

/// Requests that are sent until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    senders: JoinSet<Report>,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Report {
    /// Good answers.
    pub good: u64,
    /// The others, by what happened.
    pub bad: BTreeMap<String, u64>,
}

impl Load {
    /// Sends requests, one after the other on each of two connections: one that is kept alive, and one that is made
    /// anew each time. About a hundred a second together, so that two processors have time for the deployment too.
    pub fn start(platform: &Platform, url: &str) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut senders = JoinSet::new();
        let host = reqwest::Url::parse(url)?.host_str().context("an address has a host")?.to_owned();
        for keep_alive in [true, false] {
            let client = platform.client(&host)?;
            let (url, stop) = (url.to_owned(), Arc::clone(&stop));
            senders.spawn(async move {
                let mut report = Report::default();
                while !stop.load(Ordering::Relaxed) {
                    let mut request = client.get(&url);
                    if !keep_alive {
                        request = request.header("connection", "close");
                    }
                    let outcome = match request.send().await {
                        Ok(answer) if answer.status().is_success() => match answer.bytes().await {
                            Ok(_) => Ok(()),
                            Err(error) => Err(format!("body: {error}")),
                        },
                        Ok(answer) => Err(format!("status {}", answer.status().as_u16())),
                        Err(error) => Err(format!("{error:?}")),
                    };
                    match outcome {
                        Ok(()) => report.good += 1,
                        Err(what) => *report.bad.entry(what).or_default() += 1,
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                report
            });
        }
        Ok(Self { stop, senders })
    }

    /// Stops and adds up.
    pub async fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Report::default();
        for report in self.senders.join_all().await {
            total.good += report.good;
            for (what, count) in report.bad {
                *total.bad.entry(what).or_default() += count;
            }
        }
        total
    }
}
