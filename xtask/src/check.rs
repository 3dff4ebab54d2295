//! The architecture's boundaries, as checks that fail: who may depend on whom, and who may know what.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use regex::Regex;
use serde_json::Value;

/// The arrows of the house: a crate and those of ours that it may use. What is not here may not be used.
const MAY_USE: &[(&str, &[&str])] = &[
    ("crds", &[]),
    ("apiserver", &[]),
    ("node-protocol", &["crds"]),
    ("controller", &["crds", "node-protocol"]),
    ("node-agent", &["crds", "node-protocol"]),
    ("cli", &["crds", "apiserver", "controller", "node-protocol", "node-agent"]),
    ("e2e", &["crds", "apiserver", "controller", "node-protocol", "node-agent", "cli"]),
    ("bench", &["crds", "apiserver", "controller", "node-protocol", "node-agent", "cli", "e2e"]),
    ("xtask", &["crds"]),
];

/// A crate that must not be anywhere below one of ours: the crate, ours, why.
const MAY_NOT_KNOW: &[(&str, &str, &str)] = &[("kube-client", "node-agent", "an agent speaks only node-protocol")];

/// Crates of which there is one version, and crates of which there is none.
const ONE_VERSION: &[&str] = &["rustls", "http", "hyper", "axum", "kube", "tokio", "sqlx", "bollard", "k8s-openapi"];
const BANNED: &[&str] =
    &["ring", "openssl", "openssl-sys", "native-tls", "rsa", "serde_yaml", "serde_yml", "chrono-tz"];

/// A text that may stand only in some files: what, the pattern, where it may stand, where it is looked for.
struct Only {
    what: &'static str,
    pattern: &'static str,
    folders: &'static [&'static str],
    except: &'static [&'static str],
}

const ONLY: &[Only] = &[
    Only {
        what: "SQL stands only in the store and in the series",
        pattern: r"\bsqlx::",
        folders: &["apiserver/src", "controller/src", "node-agent/src", "cli/src", "crds/src", "node-protocol/src"],
        except: &["apiserver/src/store/", "controller/src/series", "controller/src/billing"],
    },
    Only {
        what: "only docker.rs knows bollard",
        pattern: r"\bbollard::",
        folders: &["apiserver/src", "controller/src", "node-agent/src", "cli/src", "crds/src", "node-protocol/src"],
        except: &["node-agent/src/docker"],
    },
    Only {
        what: "no shell on a host: a command is a program and its arguments",
        pattern: r#"Command::new\("(/bin/)?(ba|da|z)?sh"\)"#,
        folders: &["apiserver/src", "controller/src", "node-agent/src", "cli/src"],
        except: &[],
    },
    Only {
        what: "plan and status decide and never wait",
        pattern: r"\.await|\basync\b",
        folders: &[
            "controller/src/*/plan.rs",
            "controller/src/*/status.rs",
            "node-agent/src/plan.rs",
            "node-agent/src/plan",
            "node-agent/src/status.rs",
        ],
        except: &[],
    },
    Only {
        what: "plans have no clock, no dice and no random order",
        pattern: r"\bHash(Map|Set)\b|Timestamp::now|SystemTime|Instant::now|\brand::",
        folders: &[
            "controller/src/*/plan.rs",
            "controller/src/*/status.rs",
            "node-agent/src/plan.rs",
            "node-agent/src/plan",
            "node-agent/src/status.rs",
        ],
        except: &[],
    },
];

pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut wrong = dependencies(root)?;
    for rule in ONLY {
        wrong.extend(only(root, rule)?);
    }
    wrong.extend(kinds_unknown_to_the_server(root)?);
    wrong.extend(places_of_each_kind(root));
    if wrong.is_empty() {
        println!("all boundaries hold");
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

/// Checks who depends on whom, and which crates are in the tree, from Cargo's own account.
fn dependencies(root: &Path) -> anyhow::Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();

    let names: BTreeMap<String, String> =
        list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let ours: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    let mut wrong = Vec::new();
    let mut normal: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let id = text(&node["id"]);
        for dependency in list(&node["deps"]) {
            let to = text(&dependency["pkg"]);
            let in_tests_only = list(&dependency["dep_kinds"]).iter().all(|kind| kind["kind"] == "dev");
            if in_tests_only {
                continue;
            }
            normal.entry(id.clone()).or_default().push(to.clone());
            let (from, to) = (&names[&id], &names[&to]);
            let allowed = MAY_USE.iter().find(|(name, _)| name == from).map(|(_, uses)| *uses);
            if let Some(allowed) = allowed
                && ours.contains(to.as_str())
                && !allowed.contains(&to.as_str())
            {
                wrong.push(format!("{from} must not use {to}"));
            }
        }
    }
    wrong.extend(built(root, &cargo)?);
    for (unknown, from, why) in MAY_NOT_KNOW {
        let mut reached = BTreeSet::new();
        let mut queue: Vec<String> = names.iter().filter(|(_, name)| name == from).map(|(id, _)| id.clone()).collect();
        while let Some(id) = queue.pop() {
            if reached.insert(id.clone()) {
                queue.extend(normal.get(&id).cloned().unwrap_or_default());
            }
        }
        if reached.iter().any(|id| names[id] == *unknown) && !reached_through_crds(&names, &normal, from, unknown) {
            wrong.push(format!("{from} must not know {unknown}: {why}"));
        }
    }
    Ok(wrong)
}

/// What is really built into the product. Cargo's metadata lists optional crates too; its tree does not.
fn built(root: &Path, cargo: &OsStr) -> anyhow::Result<Vec<String>> {
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--edges", "normal,build", "--prefix", "none", "--format", "{p}|{l}"])
        .args(["--locked", "--offline"])
        .current_dir(root)
        .output()
        .context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut wrong = BTreeSet::new();
    for line in text.lines() {
        let (package, licence) = line.trim_end_matches(" (*)").split_once('|').unwrap_or((line, ""));
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        versions.entry(name).or_default().insert(version);
        if BANNED.contains(&name) {
            wrong.insert(format!("{name} {version} must not be built: one crypto provider, one YAML parser"));
        }
        if !package.contains("(/") && !licence_is_permissive(licence) {
            wrong.insert(format!("{name} {version} has the licence {licence:?}"));
        }
    }
    for name in ONE_VERSION {
        let count = versions.get(name).map_or(0, BTreeSet::len);
        if count != 1 {
            wrong.insert(format!("{count} versions of {name} are built: it must be one"));
        }
    }
    Ok(wrong.into_iter().collect())
}

/// The resource types themselves derive from kube, so what comes in through `crds` is no knowledge of a client.
fn reached_through_crds(
    names: &BTreeMap<String, String>,
    edges: &BTreeMap<String, Vec<String>>,
    from: &str,
    unknown: &str,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut queue: Vec<&String> = names.iter().filter(|(_, name)| *name == from).map(|(id, _)| id).collect();
    while let Some(id) = queue.pop() {
        if names[id] == unknown {
            return false;
        }
        if names[id] == "crds" || !seen.insert(id) {
            continue;
        }
        queue.extend(edges.get(id).into_iter().flatten());
    }
    true
}

fn licence_is_permissive(expression: &str) -> bool {
    const PERMISSIVE: &[&str] = &[
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Unicode-3.0",
        "Unicode-DFS-2016",
        "Zlib",
        "0BSD",
        "CC0-1.0",
        "Unlicense",
        "OpenSSL",
        "MIT-0",
        "BSL-1.0",
        "CDLA-Permissive-2.0",
        "Apache-2.0 WITH LLVM-exception",
        // Copyleft of single files, which we use unchanged.
        "MPL-2.0",
        "MPL-2.0+",
    ];
    // A licence expression is a choice (OR) of sums (AND): one choice must be permissive throughout.
    expression.replace('/', " OR ").split(" OR ").any(|choice| {
        choice.split(" AND ").all(|licence| PERMISSIVE.contains(&licence.trim().trim_matches(['(', ')'])))
    })
}

/// Finds a pattern where it must not stand. Test modules and comments are not looked at.
fn only(root: &Path, rule: &Only) -> anyhow::Result<Vec<String>> {
    let pattern = Regex::new(rule.pattern).context("a pattern of the boundaries is wrong")?;
    let mut wrong = Vec::new();
    for folder in rule.folders {
        for path in sources(root, folder) {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            if rule.except.iter().any(|except| name.starts_with(except)) || name.contains("/tests") {
                continue;
            }
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
            for (number, line) in text.lines().enumerate() {
                if line.trim() == "#[cfg(test)]" {
                    break;
                }
                if !line.trim_start().starts_with("//") && pattern.is_match(line) {
                    wrong.push(format!("{name}:{}: {}: {}", number + 1, rule.what, line.trim()));
                }
            }
        }
    }
    Ok(wrong)
}

/// The server knows resources, and none of our kinds by name.
fn kinds_unknown_to_the_server(root: &Path) -> anyhow::Result<Vec<String>> {
    let kinds: Vec<String> = crds::KINDS.iter().map(|entry| (entry.crd)().spec.names.kind).collect();
    let pattern =
        Regex::new(&format!(r#""({})"|berth\.dev/v1"#, kinds.join("|"))).context("a kind's name is no word")?;
    let mut wrong = Vec::new();
    for path in sources(root, "apiserver/src") {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if name.contains("/tests") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        for (number, line) in text.lines().enumerate() {
            if line.trim() == "#[cfg(test)]" {
                break;
            }
            // `Node` and `User` are Kubernetes' words too, and core kinds are the server's own.
            let theirs = ["\"Node\"", "\"User\""].iter().any(|word| line.contains(word));
            if !line.trim_start().starts_with("//") && pattern.is_match(line) && !theirs {
                wrong.push(format!("{name}:{}: the server must not know our kinds: {}", number + 1, line.trim()));
            }
        }
    }
    Ok(wrong)
}

/// A kind's whole story is found under one noun.
fn places_of_each_kind(root: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for entry in crds::KINDS {
        let noun = entry.noun;
        for place in [
            format!("crds/src/{noun}.rs"),
            format!("crds/{noun}.yaml"),
            format!("controller/src/{noun}/mod.rs"),
            plan_of(root, noun),
            format!("examples/kinds/{noun}.yaml"),
        ] {
            if !root.join(&place).exists() {
                wrong.push(format!("{place} is missing: every kind has it"));
            }
        }
    }
    wrong
}

/// Where a kind's plan is: beside its reconciler, or in the catalogue if it is one of the kinds that are planned there.
fn plan_of(root: &Path, noun: &str) -> String {
    let reconciler = fs::read_to_string(root.join(format!("controller/src/{noun}/mod.rs"))).unwrap_or_default();
    let folder = if reconciler.contains("catalogue::plan(self") { "catalogue" } else { noun };
    format!("controller/src/{folder}/plan.rs")
}

/// The Rust files below a folder, or those that a path with one `*` names.
fn sources(root: &Path, folder: &str) -> Vec<PathBuf> {
    if let Some((before, after)) = folder.split_once("/*/") {
        let mut found: Vec<PathBuf> = fs::read_dir(root.join(before))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join(after)))
            .filter(|path| path.is_file())
            .collect();
        found.sort();
        return found;
    }
    let start = root.join(folder);
    if start.is_file() {
        return vec![start];
    }
    let mut found = Vec::new();
    let mut queue = vec![start];
    while let Some(folder) = queue.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                queue.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
