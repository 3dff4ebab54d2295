//! What callers of the API may ask for: the options of `berth server` that bound it.

use std::time::Duration;

use clap::Args;

/// Each with its unit in the name of its value.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Requests a second of one user in the long run; administrators have none of the limits per user
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) requests_per_second: u32,
    /// Requests that a user who was quiet may send at once
    #[arg(long, value_name = "COUNT", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) requests_burst: u32,
    /// Requests of one user that are worked on at a time
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) requests_per_user: u32,
    /// Requests of all users that are worked on at a time; an eighth is kept for administrators
    #[arg(long, value_name = "COUNT", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(8..=100_000))]
    pub(crate) requests_in_flight: u32,
    /// Watches of one user
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) watches_per_user: u32,
    /// Watches of all users and of the server itself
    #[arg(long, value_name = "COUNT", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    pub(crate) watches: u32,
    /// How long an answer waits for a client that does not read on before it is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) reader_patience: u32,
    /// Connections at a time
    #[arg(long, value_name = "COUNT", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub(crate) connections: u32,
    /// How long the server goes on after SIGTERM while `/readyz` already says no, for a balancer to notice
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=300))]
    pub(crate) shutdown_delay: u32,
}

impl Limits {
    /// As the API server takes them.
    pub(crate) fn of_callers(&self) -> apiserver::Limits {
        apiserver::Limits {
            requests_per_second: self.requests_per_second,
            requests_burst: self.requests_burst,
            requests_per_user: count(self.requests_per_user),
            requests_in_flight: count(self.requests_in_flight),
            watches_per_user: count(self.watches_per_user),
            watches: count(self.watches),
            reader_patience: seconds(self.reader_patience),
        }
    }

    /// As the listener takes them.
    pub(crate) fn of_connections(&self) -> apiserver::Patience {
        apiserver::Patience {
            connections: count(self.connections),
            write: seconds(self.reader_patience),
            ..apiserver::Patience::default()
        }
    }

    /// How long to go on after being told to stop.
    pub(crate) fn shutdown_delay(&self) -> Duration {
        seconds(self.shutdown_delay)
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(u64::from(number))
}
