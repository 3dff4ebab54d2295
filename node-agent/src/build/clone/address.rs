//! Where the source is: the addresses of its host, whether they may be asked, and whether one of them answers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crds::address::may_be_asked;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Host, Url};

use crate::build::failure::Failure;

/// How many addresses of a host are passed on.
const ADDRESSES_MAX: usize = 4;
/// A server on the other side of the world answers within a second; a lost packet is sent again after one, three and
/// seven.
const CONNECT: Duration = Duration::from_secs(10);

/// The lines for the container's hosts file: the addresses that the source's host has now, if all may be asked.
pub(super) async fn pinned_hosts(url: &str, networks: &[IpNet]) -> Result<Vec<String>, Failure> {
    let url = Url::parse(url).map_err(|e| Failure::new("CloneFailed", format!("the address: {e}")))?;
    let port = url.port_or_known_default().unwrap_or(22);
    let (name, addresses) = match url.host() {
        None => {
            return Err(Failure::new("CloneFailed", "the address has no host").hint("check spec.source.git.url"));
        }
        Some(Host::Ipv4(address)) => (None, vec![IpAddr::from(address)]),
        Some(Host::Ipv6(address)) => (None, vec![IpAddr::from(address)]),
        Some(Host::Domain(name)) => {
            let found = tokio::net::lookup_host((name, port)).await.map_err(|problem| {
                Failure::new("CloneFailed", format!("the host {name} cannot be found: {problem}"))
                    .hint("check the host in spec.source.git.url")
            })?;
            (Some(name.to_owned()), found.map(|address: SocketAddr| address.ip()).collect())
        }
    };
    if let Some(private) = addresses.iter().find(|address| !may_be_asked(**address, networks)) {
        return Err(Failure::new("CloneFailed", format!("the source is at {private}, which is a private address"))
            .hint("the administrator can allow its network as a network of sources"));
    }
    // Docker takes an address in brackets for IPv6 in newer versions only; IPv4 comes first.
    let mut addresses = addresses;
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    check_answers(&addresses, port).await?;
    let line = |address: &IpAddr| name.as_ref().map(|name| format!("{name}:{address}"));
    Ok(addresses.iter().filter_map(line).collect())
}

/// Fails if none of the addresses takes a connection: git itself would wait for minutes.
async fn check_answers(addresses: &[IpAddr], port: u16) -> Result<(), Failure> {
    let connect = |address: &IpAddr| Box::pin(TcpStream::connect(SocketAddr::new(*address, port)));
    let first = timeout(CONNECT, futures::future::select_ok(addresses.iter().map(connect))).await;
    let problem = match first {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(problem)) => problem.to_string(),
        Err(_) => format!("no answer within {} s", CONNECT.as_secs()),
    };
    let asked =
        addresses.iter().map(|address| SocketAddr::new(*address, port).to_string()).collect::<Vec<_>>().join(", ");
    Err(Failure::new("CloneFailed", format!("the server of the source cannot be reached at {asked}: {problem}"))
        .hint("the server does not answer: check spec.source.git.url"))
}
