//! Keeps projects apart from one another, from the host and from the cloud's metadata address.
//!
//! Docker's own chains cover traffic between networks; `DOCKER-USER` runs before them and is where ours hang. It does
//! not cover what a container sends to the host itself, so there is a chain under `INPUT` too. All bridges of ours
//! begin with [`BRIDGE_PREFIX`], so the rules need not name them, and are the same for all agents of a machine.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use ipnet::IpNet;
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

/// Keeps the rules in place until it is told to stop; says what is wrong, `None` if nothing is. They stay after that.
///
/// Builds may reach `source_networks` on the host too: a forge that runs beside the agent.
pub(crate) async fn run(
    source_networks: Vec<IpNet>,
    trouble: watch::Sender<Option<String>>,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let wrong = ensure(&source_networks).await.err();
        trouble.send_if_modified(|before| {
            let changed = *before != wrong;
            if changed && let Some(wrong) = &wrong {
                tracing::warn!(wrong, "the firewall is not in place");
            }
            before.clone_from(&wrong);
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
    if let Err(error) = chain("iptables", FORWARD, "DOCKER-USER", &forward_rules(&inside)).await {
        tracing::debug!(error, "the firewall does not tell what stays on a bridge");
        let inside: Vec<Vec<String>> =
            bridges().iter().map(|bridge| rule(&["-i", bridge, "-o", bridge, "-j", "RETURN"])).collect();
        chain("iptables", FORWARD, "DOCKER-USER", &forward_rules(&inside)).await?;
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
    let builds = format!("{OUTSIDE_BRIDGE_PREFIX}+");
    let mut rules = vec![rule(&["-i", &any, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "RETURN"])];
    let four = source_networks.iter().filter(|network| network.addr().is_ipv4()).map(IpNet::trunc);
    rules.extend(four.map(|network| rule(&["-d", &network.to_string(), "-i", &builds, "-p", "tcp", "-j", "RETURN"])));
    rules.push(rule(&["-i", &any, "-j", "DROP"]));
    rules
}

/// From project to anywhere else: not to the metadata address, and not to another project. `inside` lets pass what stays
/// inside a project, where the kernel shows bridged packets to the firewall at all.
fn forward_rules(inside: &[Vec<String>]) -> Vec<Vec<String>> {
    let any = any_bridge();
    let mut rules = vec![rule(&["-d", METADATA, "-i", &any, "-j", "REJECT", "--reject-with", "icmp-port-unreachable"])];
    rules.extend(inside.iter().cloned());
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
    fn everything_between_projects_is_dropped_but_what_stays_inside_one() {
        let inside = [rule(&["-i", "bth-a", "-o", "bth-a", "-j", "RETURN"])];
        let rules: Vec<String> = forward_rules(&inside).iter().map(|rule| rule.join(" ")).collect();
        assert_eq!(
            rules,
            [
                "-d 169.254.0.0/16 -i bth-+ -j REJECT --reject-with icmp-port-unreachable",
                "-i bth-a -o bth-a -j RETURN",
                "-i bth-+ -o bth-+ -j DROP",
            ]
        );
    }
}
