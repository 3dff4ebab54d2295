//! Reads Docker's answers into the machine's words. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bollard::container::LogOutput;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerStatsResponse, ImageInspect, ImageSummary,
};
use jiff::Timestamp;

use crate::labels::short_hash;
use crate::machine::{Container, ContainerState, Image, Output};

/// An inspected container; `None` if the answer lacks what every container has.
pub(super) fn container(answer: ContainerInspectResponse) -> Option<Container> {
    let state = answer.state.unwrap_or_default();
    let running = state.running == Some(true);
    let status = match state.status {
        Some(ContainerStateStatusEnum::CREATED) => ContainerState::Created,
        Some(ContainerStateStatusEnum::RUNNING) => ContainerState::Running,
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => ContainerState::Exited,
        Some(ContainerStateStatusEnum::REMOVING) => ContainerState::Removing,
        _ => ContainerState::Unknown,
    };
    let address = answer
        .network_settings
        .and_then(|settings| settings.networks)
        .into_iter()
        .flatten()
        .find_map(|(_, endpoint)| endpoint.ip_address.as_deref().and_then(|text| text.parse::<IpAddr>().ok()));
    Some(Container {
        id: answer.id?,
        name: answer.name?.trim_start_matches('/').to_owned(),
        labels: answer.config.and_then(|config| config.labels).unwrap_or_default().into_iter().collect(),
        state: status,
        started_at: time(state.started_at),
        finished_at: time(state.finished_at),
        exit_code: if running || status == ContainerState::Created { None } else { state.exit_code },
        out_of_memory: state.oom_killed == Some(true),
        image: answer.image.unwrap_or_default(),
        address: address.filter(|_| running),
    })
}

/// Docker writes the year 1 for "never".
fn time(text: Option<String>) -> Option<Timestamp> {
    text?.parse::<Timestamp>().ok().filter(|at| at.as_second() > 0)
}

/// A piece of output, from whichever of Docker's streams.
pub(super) fn output(piece: LogOutput) -> Output {
    Output { errors: matches!(piece, LogOutput::StdErr { .. }), bytes: piece.into_bytes() }
}

/// An inspected image.
pub(super) fn image(answer: ImageInspect) -> Image {
    let config = answer.config.unwrap_or_default();
    Image {
        id: answer.id.unwrap_or_default(),
        tags: answer.repo_tags.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        ports: config
            .exposed_ports
            .unwrap_or_default()
            .iter()
            .filter_map(|port| tcp_port(port))
            .collect::<BTreeSet<_>>(),
        user: config.user.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        size_bytes: u64::try_from(answer.size.unwrap_or_default()).unwrap_or_default(),
        created: answer.created.and_then(|at| Timestamp::from_second(at.unix_timestamp()).ok()),
        triggers: config.on_build.unwrap_or_default(),
    }
}

/// An image from a list.
pub(super) fn image_summary(answer: ImageSummary) -> Image {
    Image {
        id: answer.id,
        // So the daemon writes that there is none.
        tags: answer.repo_tags.into_iter().filter(|tag| tag != "<none>:<none>").collect(),
        labels: answer.labels.into_iter().collect(),
        size_bytes: u64::try_from(answer.size).unwrap_or_default(),
        created: Timestamp::from_second(answer.created).ok(),
        ..Image::default()
    }
}

/// `8080/tcp` or `8080`; no other protocol.
fn tcp_port(text: &str) -> Option<u16> {
    match text.split_once('/') {
        Some((port, "tcp")) => port.parse().ok(),
        Some(_) => None,
        None => text.parse().ok(),
    }
}

/// A reference with a tag or digest: without one Docker would fetch all tags.
pub(super) fn with_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains(':') || last.contains('@') { reference.to_owned() } else { format!("{reference}:latest") }
}

/// A subnet of 61 addresses out of 10.213.0.0/16, for when Docker's own pools are used up.
pub(super) fn own_subnet(name: &str, attempt: u32) -> String {
    let hash = short_hash(&format!("{name}#{attempt}"), 4);
    let place = u32::from_str_radix(&hash, 16).unwrap_or_default() % 1024;
    format!("10.213.{}.{}/26", place / 4, place % 4 * 64)
}

/// Processor time since the container began.
pub(super) fn processor_nanoseconds(stats: &ContainerStatsResponse) -> u64 {
    stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()).and_then(|usage| usage.total_usage).unwrap_or(0)
}

/// Memory in use without the page cache that the kernel would give back, as `docker stats` counts it.
pub(super) fn memory_bytes(stats: &ContainerStatsResponse) -> u64 {
    let Some(memory) = &stats.memory_stats else { return 0 };
    let detail = |name: &str| memory.stats.as_ref().and_then(|all| all.get(name)).copied();
    // The first name is that of cgroup v1, the second that of v2.
    let cache = detail("total_inactive_file").or_else(|| detail("inactive_file")).unwrap_or(0);
    memory.usage.unwrap_or(0).saturating_sub(cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_get_a_tag() {
        for (given, expected) in [
            ("app", "app:latest"),
            ("r.example.com:5000/a", "r.example.com:5000/a:latest"),
            ("berth/hello:1", "berth/hello:1"),
        ] {
            assert_eq!(with_tag(given), expected);
        }
        assert!(!with_tag("a@sha256:00").ends_with("latest"));
    }

    #[test]
    fn only_tcp_ports_count() {
        assert_eq!((tcp_port("80/tcp"), tcp_port("81"), tcp_port("53/udp")), (Some(80), Some(81), None));
    }

    #[test]
    fn the_year_one_is_never() {
        assert_eq!(time(Some("0001-01-01T00:00:00Z".to_owned())), None);
        assert!(time(Some("2026-11-22T20:00:00.123456789Z".to_owned())).is_some());
    }
}
