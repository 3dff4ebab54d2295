//! Events: what a person sees in `kubectl describe` and `berth why`. They are told in the background, so that no
//! reconciliation waits for them, and the same event again only raises a counter.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::step::{Note, Nouned};

/// Events that wait to be stored: some seconds' worth of a busy controller. What comes on top is dropped and counted:
/// an event explains, and nothing depends on it.
const WAITING_MAX: usize = 4096;
/// The API takes at most 1,024 bytes of a note.
const NOTE_BYTES_MAX: usize = 1024;

/// Where events are handed in.
#[derive(Clone)]
pub(crate) struct Events {
    sender: mpsc::Sender<(ObjectReference, Event)>,
    metrics: Metrics,
}

/// The other end, which stores them.
pub(crate) struct Publisher {
    receiver: mpsc::Receiver<(ObjectReference, Event)>,
    recorder: Recorder,
}

pub(crate) fn channel(client: Client, metrics: Metrics) -> (Events, Publisher) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let reporter = Reporter { controller: "berth.dev/controller".to_owned(), instance: None };
    (Events { sender, metrics }, Publisher { receiver, recorder: Recorder::new(client, reporter) })
}

impl Events {
    /// Tells of something about an object.
    pub(crate) fn tell<K: Nouned>(&self, about: &K, note: &Note) {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason.clone(),
            note: Some(shortened(&note.message)).filter(|note| !note.is_empty()),
            action: note.reason.clone(),
            secondary: None,
        };
        if self.sender.try_send((Resource::object_ref(about, &()), event)).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}

impl Publisher {
    /// Stores events until shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let (about, event) = tokio::select! {
                next = self.receiver.recv() => match next {
                    Some(next) => next,
                    None => return,
                },
                () = shutdown.cancelled() => return,
            };
            if let Err(error) = self.recorder.publish(&event, &about).await {
                // An object of a namespace that is going away cannot have new events.
                tracing::debug!(%error, reason = event.reason, "an event could not be stored");
            }
        }
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= NOTE_BYTES_MAX {
        return text.to_owned();
    }
    let room = NOTE_BYTES_MAX - '…'.len_utf8();
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"ü".repeat(900));
        assert!(long.len() <= NOTE_BYTES_MAX && long.ends_with('…'), "{}", long.len());
    }
}
