//! Docker as the loop hears of it: whether it answers, and which containers have changed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;

use crate::machine::Containers;

/// Time between two tries to reach a Docker that does not answer.
const ENGINE_RETRY: Duration = Duration::from_secs(1);

/// What is heard of Docker.
pub(super) enum News {
    /// It answers, and its events flow.
    Up,
    /// It does not answer.
    Down(String),
    /// Something about this container changed.
    Changed(String),
}

/// Listens to Docker for as long as there is one, and says when there is none.
pub(super) async fn watch<C: Containers>(containers: Arc<C>, news: mpsc::Sender<News>) {
    loop {
        let trouble = match containers.engine().await {
            Ok(_) => {
                let mut events = containers.events();
                if news.send(News::Up).await.is_err() {
                    return;
                }
                loop {
                    match events.next().await {
                        Some(Ok(event)) => {
                            let Some(id) = event.container else { continue };
                            if event.action.starts_with("exec_") {
                                continue;
                            }
                            if news.send(News::Changed(id)).await.is_err() {
                                return;
                            }
                        }
                        Some(Err(error)) => break error.to_string(),
                        None => break "docker ended its events".to_owned(),
                    }
                }
            }
            Err(error) => error.to_string(),
        };
        if news.send(News::Down(trouble)).await.is_err() {
            return;
        }
        tokio::time::sleep(ENGINE_RETRY).await;
    }
}
