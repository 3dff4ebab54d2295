//! Keeps projects apart from one another, from the host and from the cloud's metadata address.
//!
//! Docker's own chains cover traffic between networks; `DOCKER-USER` runs before them and is where ours hang. It does
//! not cover what a container sends to the host itself, so there is a chain under `INPUT` too. All bridges of ours
//! begin with [`BRIDGE_PREFIX`], so the rules need not name them, and are the same for all agents of a machine.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use ipnet::IpNet;
use node_protocol::PartState;
use tokio::process::Command;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::machine::{BRIDGE_PREFIX, OUTSIDE_BRIDGE_PREFIX};

/// How often the rules are looked at: a flushed firewall or a restarted Docker is made up for within this.
const LOOK: Duration = Duration::from_secs(10);
/// How long `iptables` may wait for its lock and work.
const WITHIN: Duration = Duration::from_secs(8);
/// Addresses for which a machine in a cloud answers with its secrets.
const METADATA: &str = "169.254.0.0/16";
const FORWARD: &str = "BERTH-FORWARD";
const INPUT: &str = "BERTH-INPUT";

/// Networks that are not the Internet, and that only the operator can open to builds.
const PRIVATE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", METADATA];
/// Where the machine says who answers its questions for names.
const RESOLVERS: &str = "/etc/resolv.conf";

/// What is known of the firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether it was put in place, or tried to be, since Docker first answered: before, nothing may be started.
    pub(crate) tried: bool,
    /// What is wrong with it, if anything.
    pub(crate) trouble: Option<String>,
}

/// Keeps the rules in place until it is told to stop, and says how they are. They stay after that.
///
/// Builds may reach `source_networks` although they are private, on the host too: a forge that runs beside the agent.
pub(crate) async fn run(
    source_networks: Vec<IpNet>,
    mut docker: watch::Receiver<PartState>,
    state: watch::Sender<State>,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
            // Docker makes its chains when it starts.
            Ok(()) = docker.changed() => {}
        }
        let answers = docker.borrow_and_update().healthy;
        let trouble = ensure(&source_networks).await.err();
        state.send_if_modified(|before| {
            if before.trouble != trouble
                && let Some(trouble) = &trouble
            {
                tracing::warn!(trouble, "the firewall is not in place");
            }
            let now = State { tried: before.tried || answers, trouble };
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}

/// Puts in place what is missing.
async fn ensure(source_networks: &[IpNet]) -> Result<(), String> {
    // Where there is no IPv6, there is nothing to keep apart by it; containers of ours have none anyway.
    let six = chain("ip6tables", INPUT, "INPUT", &input_rules(&[])).await;
    if let Err(error) = six {
        tracing::debug!(error, "ip6tables");
    }
    chain("iptables", INPUT, "INPUT", &input_rules(source_networks)).await?;
    // By one rule that covers every bridge from the moment it is made; a kernel without that gets one rule a bridge,
    // where the first packets inside a new project wait for the next look.
    let inside = [rule(&["-i", &any_bridge(), "-m", "physdev", "--physdev-is-bridged", "-j", "RETURN"])];
    let builds = build_rules(source_networks, &resolvers(&std::fs::read_to_string(RESOLVERS).unwrap_or_default()));
    if let Err(error) = chain("iptables", FORWARD, "DOCKER-USER", &forward_rules(&inside, &builds)).await {
        tracing::debug!(error, "the firewall does not tell what stays on a bridge");
        let inside: Vec<Vec<String>> =
            bridges().iter().map(|bridge| rule(&["-i", bridge, "-o", bridge, "-j", "RETURN"])).collect();
        chain("iptables", FORWARD, "DOCKER-USER", &forward_rules(&inside, &builds)).await?;
    }
    Ok(())
}

/// All bridges of ours, as the firewall writes it.
fn any_bridge() -> String {
    format!("{BRIDGE_PREFIX}+")
}

/// The bridges of ours that exist.
fn bridges() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(BRIDGE_PREFIX))
        .collect();
    names.sort_unstable();
    names
}

/// From project to host: answers only. From build to host: sources too, where they are allowed to be.
fn input_rules(source_networks: &[IpNet]) -> Vec<Vec<String>> {
    let any = any_bridge();
    let mut rules = vec![rule(&["-i", &any, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "RETURN"])];
    rules.extend(source_rules(source_networks));
    rules.push(rule(&["-i", &any, "-j", "DROP"]));
    rules
}

/// From build to sources, wherever they are.
fn source_rules(source_networks: &[IpNet]) -> impl Iterator<Item = Vec<String>> {
    let four = source_networks.iter().filter(|network| network.addr().is_ipv4()).map(IpNet::trunc);
    four.map(|network| rule(&["-d", &network.to_string(), "-i", &builds(), "-p", "tcp", "-j", "RETURN"]))
}

/// From build to elsewhere: to sources and to whoever answers for names, and else to the Internet only. A build runs what
/// a customer wrote, and has no business with the operator's other machines.
fn build_rules(source_networks: &[IpNet], resolvers: &[Ipv4Addr]) -> Vec<Vec<String>> {
    let mut rules: Vec<Vec<String>> = source_rules(source_networks).collect();
    for resolver in resolvers {
        for protocol in ["udp", "tcp"] {
            let to = format!("{resolver}/32");
            rules.push(rule(&[
                "-d",
                &to,
                "-i",
                &builds(),
                "-p",
                protocol,
                "-m",
                protocol,
                "--dport",
                "53",
                "-j",
                "RETURN",
            ]));
        }
    }
    let reject =
        |network| rule(&["-d", network, "-i", &builds(), "-j", "REJECT", "--reject-with", "icmp-port-unreachable"]);
    rules.extend(PRIVATE.iter().copied().map(reject));
    rules
}

/// Whom the machine asks for names. Docker asks one on the machine itself from outside of the containers.
fn resolvers(text: &str) -> Vec<Ipv4Addr> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok());
    let mut resolvers: Vec<Ipv4Addr> = named.filter(|address| !address.is_loopback()).collect();
    resolvers.dedup();
    resolvers
}

/// The bridges of builds, as the firewall writes it.
fn builds() -> String {
    format!("{OUTSIDE_BRIDGE_PREFIX}+")
}

/// From project to anywhere else: not to the metadata address, and not to another project. `inside` lets pass what stays
/// inside a project, where the kernel shows bridged packets to the firewall at all.
fn forward_rules(inside: &[Vec<String>], builds: &[Vec<String>]) -> Vec<Vec<String>> {
    let any = any_bridge();
    let mut rules = vec![rule(&["-d", METADATA, "-i", &any, "-j", "REJECT", "--reject-with", "icmp-port-unreachable"])];
    rules.extend(inside.iter().chain(builds).cloned());
    rules.push(rule(&["-i", &any, "-o", &any, "-j", "DROP"]));
    rules
}

fn rule(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Makes a chain hold exactly these rules and be the first that `parent` jumps to. A chain that is as it should be is
/// not touched, so there is no moment without rules.
async fn chain(tool: &str, name: &str, parent: &str, rules: &[Vec<String>]) -> Result<(), String> {
    let present = run_tool(tool, &["-S", name]).await;
    let wanted: Vec<String> = rules.iter().map(|rule| format!("-A {name} {}", rule.join(" "))).collect();
    let as_wanted = present.as_ref().is_ok_and(|text| text.lines().skip(1).eq(wanted.iter().map(String::as_str)));
    if !as_wanted {
        if present.is_err() {
            run_tool(tool, &["-N", name]).await?;
        }
        // New rules first, then the old ones go: at no moment is less forbidden than should be.
        let old = present.as_ref().map_or(0, |text| text.lines().skip(1).count());
        for (index, rule) in rules.iter().enumerate() {
            let position = (index + 1).to_string();
            let mut words = vec!["-I", name, position.as_str()];
            words.extend(rule.iter().map(String::as_str));
            run_tool(tool, &words).await?;
        }
        let first_old = (rules.len() + 1).to_string();
        for _ in 0..old {
            run_tool(tool, &["-D", name, &first_old]).await?;
        }
    }
    let jump = format!("-A {parent} -j {name}");
    let parent_rules = run_tool(tool, &["-S", parent]).await?;
    if parent_rules.lines().find(|line| line.starts_with("-A ")) != Some(jump.as_str()) {
        run_tool(tool, &["-I", parent, "1", "-j", name]).await?;
        let again = parent_rules.lines().filter(|line| *line == jump).count();
        for _ in 0..again {
            // The jump that stood too far down; the first one found is deleted, so ours is put back by the next look
            // at the latest. Deleting by number is exact.
            let listing = run_tool(tool, &["-S", parent]).await?;
            let position = listing
                .lines()
                .filter(|line| line.starts_with("-A "))
                .enumerate()
                .filter(|(_, line)| *line == jump)
                .map(|(index, _)| index + 1)
                .last();
            if let Some(position) = position.filter(|position| *position > 1) {
                run_tool(tool, &["-D", parent, &position.to_string()]).await?;
            }
        }
    }
    Ok(())
}

/// Runs the tool with these arguments and gives what it prints.
async fn run_tool<S: AsRef<OsStr>>(tool: &str, arguments: &[S]) -> Result<String, String> {
    let run = Command::new(tool)
        .args(["-w", "5"])
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(WITHIN, run)
        .await
        .map_err(|late| format!("{tool} did not end within {} s: {late}", WITHIN.as_secs()))?
        .map_err(|error| format!("{tool} cannot be run: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{tool}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_between_projects_is_dropped_and_builds_reach_the_internet_only() {
        let inside = [rule(&["-i", "bth-a", "-o", "bth-a", "-j", "RETURN"])];
        let builds = build_rules(
            &["192.168.7.9/32".parse().unwrap()],
            &resolvers("nameserver 127.0.0.53\n nameserver 10.0.0.2\nsearch x\n"),
        );
        let rules: Vec<String> = forward_rules(&inside, &builds).iter().map(|rule| rule.join(" ")).collect();
        assert_eq!(
            rules,
            [
                "-d 169.254.0.0/16 -i bth-+ -j REJECT --reject-with icmp-port-unreachable",
                "-i bth-a -o bth-a -j RETURN",
                "-d 192.168.7.9/32 -i bth-o+ -p tcp -j RETURN",
                "-d 10.0.0.2/32 -i bth-o+ -p udp -m udp --dport 53 -j RETURN",
                "-d 10.0.0.2/32 -i bth-o+ -p tcp -m tcp --dport 53 -j RETURN",
                "-d 10.0.0.0/8 -i bth-o+ -j REJECT --reject-with icmp-port-unreachable",
                "-d 172.16.0.0/12 -i bth-o+ -j REJECT --reject-with icmp-port-unreachable",
                "-d 192.168.0.0/16 -i bth-o+ -j REJECT --reject-with icmp-port-unreachable",
                "-d 100.64.0.0/10 -i bth-o+ -j REJECT --reject-with icmp-port-unreachable",
                "-d 169.254.0.0/16 -i bth-o+ -j REJECT --reject-with icmp-port-unreachable",
                "-i bth-+ -o bth-+ -j DROP",
            ]
        );
    }
}
