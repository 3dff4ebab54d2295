//! Ports for programs that are told theirs, and bind it a while after it was chosen.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what Linux gives to those who ask for any port, by default: nobody else is given one of these meanwhile.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// One of them.
pub fn free_port() -> u16 {
    free_ports(1)[0]
}

/// So many ports that nobody listens on, each given once by this process.
pub fn free_ports(count: usize) -> Vec<u16> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Tests run beside each other, each in a process of its own: they begin apart from each other.
    let begin = std::process::id().wrapping_mul(61) % u32::from(COUNT);
    let begin = u16::try_from(begin).unwrap_or_default();
    let next = || FIRST + (begin + GIVEN.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
    std::iter::repeat_with(next).filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok()).take(count).collect()
}
