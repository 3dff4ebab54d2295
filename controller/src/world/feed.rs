//! Keeps a kind's objects as the API server has them: lists once, then watches, and starts again when it must.

use std::sync::Arc;

use futures::StreamExt;
use kube::Client;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use tokio_util::sync::CancellationToken;

use crate::hub::{Hub, Reacts};

/// Objects in one page of a list: at some 4 KiB each, 8 MB in flight.
const PAGE: u32 = 2000;

/// Feeds one kind into the world until shutdown. A watch that breaks is opened again after a growing pause.
pub(crate) async fn feed<K: Reacts>(client: Client, hub: Arc<Hub>, shutdown: CancellationToken) {
    let config = watcher::Config::default().page_size(PAGE);
    // Who owns which field is as large as the object, and nobody here asks.
    let forget = |object: &mut K| object.meta_mut().managed_fields = None;
    let mut events = watch(Api::<K>::all(client), config).default_backoff().modify(forget).boxed();
    let mut list = Vec::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = shutdown.cancelled() => return,
        };
        let cache = K::cache(&hub.world);
        match event {
            Some(Ok(Event::Init)) => list.clear(),
            Some(Ok(Event::InitApply(object))) => list.push(object),
            Some(Ok(Event::InitDone)) => {
                let changes = cache.replace(std::mem::take(&mut list));
                tracing::debug!(kind = K::KIND, objects = cache.len(), "listed");
                for change in &changes {
                    hub.react(change);
                }
                hub.world.note_change();
            }
            Some(Ok(Event::Apply(object))) => hub.changed(&cache.apply(object)),
            Some(Ok(Event::Delete(object))) => hub.changed(&cache.remove(&object)),
            Some(Err(error)) => tracing::warn!(kind = K::KIND, %error, "cannot watch; trying again"),
            None => return,
        }
    }
}
