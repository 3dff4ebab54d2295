//! Watches the branches that applications are deployed from.

use std::sync::Arc;

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;

pub(crate) async fn run(hub: Arc<Hub>, networks: Vec<IpNet>, shutdown: CancellationToken) {
    let _settings = (&hub.settings, networks);
    shutdown.cancelled().await;
}
