//! `berth agent`: the agent of a worker node.

use crate::args;
use crate::failure::{Exit, fail};
use crate::server::start_logging;
use crate::signals;

pub(crate) async fn run(options: args::Agent) -> anyhow::Result<()> {
    let args::Agent {
        server,
        token_file,
        data,
        docker_host,
        http_port,
        https_port,
        name,
        extra_ca,
        source_network,
        log,
    } = options;
    start_logging(&log)?;
    let node_name = name.unwrap_or_else(host_name);
    if !crds::names::is_label(&node_name) {
        let allowed = "a node's name is 1 to 63 of a-z, 0-9 and -; give one with --name";
        return Err(fail(Exit::Usage, format!("--name {node_name:?}: {allowed}")));
    }
    let options = node_agent::Options {
        server_url: server,
        token_file,
        data_dir: data,
        docker_host,
        http_port,
        https_port,
        node_name,
        extra_ca_file: extra_ca,
        source_networks: source_network,
        firewall: true,
    };
    node_agent::run(options, signals::shutdown()?).await
}

/// The machine's name as a node's: the first label, in lower case.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or_default().to_lowercase().replace('_', "-")
}
