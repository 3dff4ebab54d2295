//! Which addresses Berth itself connects to for a customer, of a Git source for example: public ones, and those that the
//! operator allows. Without this a customer could make it ask services that only it can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;

/// Networks that are not the public internet: IANA's special-purpose registries for IPv4 and IPv6.
static SPECIAL: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    let networks = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "100::/64",
        "2001:db8::/32",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ];
    networks.iter().map(|network| network.parse().expect("the list is constant and a test reads it")).collect()
});

/// Whether Berth may connect to an address for a customer, where the operator allows these networks.
pub fn may_be_asked(address: IpAddr, allowed: &[IpNet]) -> bool {
    let inner = embedded(address);
    let within = |networks: &[IpNet], address: IpAddr| networks.iter().any(|network| network.contains(&address));
    [Some(address), inner.map(IpAddr::V4)]
        .into_iter()
        .flatten()
        .all(|address| within(allowed, address) || !within(&SPECIAL, address) || is_wrapping(address, inner, allowed))
}

/// An address that only wraps an allowed one is judged by what it wraps.
fn is_wrapping(address: IpAddr, inner: Option<Ipv4Addr>, allowed: &[IpNet]) -> bool {
    address.is_ipv6() && inner.is_some_and(|inner| allowed.iter().any(|network| network.contains(&IpAddr::V4(inner))))
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 or 6to4.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let segments = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        _ if matches!(address, Ipv6Addr::LOCALHOST | Ipv6Addr::UNSPECIFIED) => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, .., high, low] | [0x2002, high, low, ..] => {
            Some(of(high, low))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_unless_the_operator_says_otherwise() {
        let allowed = |text: &str, networks: &[&str]| {
            let networks: Vec<IpNet> = networks.iter().map(|network| network.parse().unwrap()).collect();
            may_be_asked(text.parse().unwrap(), &networks)
        };
        for public in ["140.82.121.4", "2606:50c0:8000::153", "::ffff:140.82.121.4", "64:ff9b::8c52:7904"] {
            assert!(allowed(public, &[]), "{public}");
        }
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "ff02::1",
        ] {
            assert!(!allowed(private, &[]), "{private}");
        }
        assert!(allowed("127.0.0.1", &["127.0.0.0/8"]));
        assert!(allowed("::ffff:10.0.0.1", &["10.0.0.0/24"]));
        assert!(!allowed("10.0.1.1", &["10.0.0.0/24"]));
    }
}
