//! Which addresses the node has open connections to, as the kernel lists them: Nginx runs in the host's network, so a
//! request in flight to an instance stands there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The state ESTABLISHED in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// Remote ends of all established connections; `None` where the kernel does not tell.
pub(crate) async fn open() -> Option<BTreeSet<SocketAddr>> {
    let mut all = BTreeSet::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(text) = tokio::fs::read_to_string(Path::new(file)).await {
            all.extend(text.lines().skip(1).filter_map(remote));
        } else if file == "/proc/net/tcp" {
            return None;
        }
    }
    Some(all)
}

/// The remote end of a line, if its connection is established.
fn remote(line: &str) -> Option<SocketAddr> {
    let mut fields = line.split_ascii_whitespace();
    let remote = fields.nth(2)?;
    if fields.next()? != ESTABLISHED {
        return None;
    }
    let (address, port) = remote.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each 32 bits are written as the number that they are in this machine's memory.
    let mut bytes = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn an_open_connection_is_seen_until_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!open().await.unwrap().contains(&address));
        let client = TcpStream::connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert!(open().await.unwrap().contains(&address));
        drop((server, client));
        assert!(!open().await.unwrap().contains(&address));
    }

    #[test]
    fn an_address_of_both_kinds_is_read() {
        let line = "  1: 0100007F:1F90 0200C90A:1F90 01 00000000:00000000 00:00000000 00000000 0 0 1";
        assert_eq!(remote(line), Some("10.201.0.2:8080".parse().unwrap()));
        let line = "  1: 0000:1 0000000000000000FFFF00000200C90A:1F90 01 00000000:00000000";
        assert_eq!(remote(line), Some("10.201.0.2:8080".parse().unwrap()));
        assert_eq!(remote("  1: 0100007F:1F90 0200C90A:1F90 06 0"), None);
    }
}
