//! The help of every command, and wrong usage of the command line itself.

use std::fmt::Write;

use crate::berth::{program, run};

fn berth(arguments: &[&str]) -> crate::berth::Outcome {
    let mut command = program();
    command.args(arguments);
    run(command, "")
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let names = listed.take_while(|line| line.starts_with("  ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn help() {
    let mut text = String::new();
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let outcome = berth(&arguments);
        assert_eq!(outcome.code, Some(0), "{path:?}");
        assert_eq!(outcome.stderr, "", "{path:?}");
        writeln!(text, "$ berth {}\n{}", arguments.join(" "), outcome.stdout).unwrap();
        let below = commands(&outcome.stdout);
        open.extend(below.into_iter().rev().map(|name| [path.clone(), vec![name]].concat()));
    }
    assert!(text.matches("\n$ berth ").count() > 20, "every command is there");
    insta::assert_snapshot!(text);
}

#[test]
fn version() {
    let outcome = berth(&["--version"]);
    assert_eq!((outcome.code, outcome.stdout.trim()), (Some(0), concat!("berth ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn completion_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = berth(&["completion", shell]);
        assert_eq!(outcome.code, Some(0), "{shell}");
        assert!(outcome.stdout.contains("berth") && outcome.stdout.contains("describe"), "{shell}");
    }
    assert_eq!(berth(&["completion", "cmd.exe"]).code, Some(2));
}

#[test]
fn definitions_are_the_committed_ones() {
    let outcome = berth(&["crds"]);
    assert_eq!(outcome.code, Some(0));
    let printed: Vec<serde_json::Value> = serde_saphyr::from_multiple(&outcome.stdout).unwrap();
    assert_eq!(printed.len(), crds::KINDS.len());
    for (printed, entry) in printed.iter().zip(crds::KINDS) {
        let file = format!("{}/../crds/{}.yaml", env!("CARGO_MANIFEST_DIR"), entry.noun);
        let committed: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(*printed, committed, "{}", entry.noun);
    }
}

#[test]
fn wrong_usage_and_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("text"), "just text\n").unwrap();
    let closed = crate::berth::free_port();
    let kubeconfig = |server: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n"
        )
    };
    std::fs::write(path("closed"), kubeconfig(&format!("https://127.0.0.1:{closed}"))).unwrap();
    std::fs::write(path("nohost"), kubeconfig("https://no-such-host.invalid:1")).unwrap();
    let (empty, text, closed, nohost, absent) =
        (path("empty"), path("text"), path("closed"), path("nohost"), path("absent"));
    for (arguments, code, words) in [
        (vec![], 2, "Usage: berth <COMMAND>"),
        (vec!["fly"], 2, "unrecognized subcommand 'fly'"),
        (vec!["get"], 2, "<KIND>"),
        (vec!["get", "app", "-o", "table"], 2, "[possible values: json, yaml, wide, name]"),
        (vec!["get", "app", "-n", "A_b"], 2, "1 to 63 of a-z"),
        (vec!["apply"], 2, "--filename"),
        (vec!["apply", "-f", &absent], 2, "No such file"),
        (vec!["apply", "-f", &empty], 2, "there are no resources in"),
        (vec!["apply", "-f", &text], 4, "not a map with apiVersion"),
        (vec!["delete"], 2, "<KIND>"),
        (vec!["node", "token", "--uses", "0"], 2, "1..=1000"),
        (vec!["node", "token", "--ttl", "soon"], 2, "from 1m to 30d"),
        (vec!["logs", "shop", "--since", "soon"], 2, "a number of seconds"),
        (vec!["get", "app"], 6, "berth up"),
        (vec!["get", "app", "--kubeconfig", &absent], 2, "cannot read the kubeconfig"),
        (vec!["get", "app", "--kubeconfig", &empty], 2, "no current context"),
        (vec!["get", "app", "--kubeconfig", &text], 2, "cannot use the kubeconfig"),
        (vec!["get", "app", "--kubeconfig", &closed], 6, "nothing listens at this address"),
        (vec!["get", "app", "--kubeconfig", &closed, "--context", "b"], 2, "there is no context \"b\""),
        (vec!["get", "app", "--kubeconfig", &nohost], 6, "cannot reach https://no-such-host.invalid:1"),
        (vec!["down", "--data", &absent], 3, "nothing was started"),
        (vec!["server", "--data", &absent, "--database-url", "mysql://me:hunter2@h/d"], 2, "must be sqlite:PATH"),
        (vec!["server", "--data", &absent, "--platform-domain", "local host"], 2, "--platform-domain"),
        (vec!["server", "--data", &absent, "--log", "a=b=c"], 2, "--log"),
        (vec!["init", &text], 2, "is no folder"),
    ] {
        let outcome = berth(&arguments);
        assert_eq!(outcome.code, Some(code), "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("hunter2"), "{arguments:?}");
        assert_eq!(outcome.stdout, "", "{arguments:?}");
    }
}

#[test]
fn init_writes_a_file_once() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("My Shop");
    std::fs::create_dir(&app).unwrap();
    let path = app.display().to_string();
    assert_eq!(berth(&["init", &path]).code, Some(0));
    let text = std::fs::read_to_string(app.join("berth.yaml")).unwrap();
    insta::assert_snapshot!(text);
    assert_eq!(berth(&["init", &path]).code, Some(4), "it is there already");
    assert_eq!(berth(&["init", &path, "--force", "--name", "blog"]).code, Some(0));
    assert!(std::fs::read_to_string(app.join("berth.yaml")).unwrap().contains("name: blog"));
    assert_eq!(berth(&["init", &path, "--force", "--name", "Blog!"]).code, Some(2));
}
