//! A story of commands against one server: each with its exit code and what a person sees.

use std::fmt::Write;

use crate::berth::{Server, free_port, wait_for};

const PLAN: &str = "\
apiVersion: berth.dev/v1alpha1
kind: Plan
metadata: {name: tiny, labels: {for: tests}}
spec: {cpu: 100m, memory: 128Mi, disk: 1Gi, pricePerHour: '0.001', displayName: Tiny}
";
const PLAN_CHANGED: &str = "\
apiVersion: berth.dev/v1alpha1
kind: Plan
metadata: {name: tiny, labels: {for: tests}}
spec: {cpu: 200m, memory: 128Mi, disk: 1Gi, pricePerHour: '0.001'}
";
const STOPPED: &str = "\
apiVersion: berth.dev/v1alpha1
kind: Application
metadata: {name: shop}
spec: {plan: tiny, running: false, source: {image: {reference: 'berth/hello:1'}}}
";
const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {tls.crt: hunter2}\n";
const TWO_NAMESPACES: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: acme}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: acme, labels: {of: test}}
data: {a: b}
";

/// A command, its input, and the exit code that is expected.
type Line<'a> = (&'a [&'a str], &'a str, i32);

/// Runs commands one after the other and returns what a person would see.
fn story(server: &Server, lines: &[Line<'_>]) -> String {
    let mut text = String::new();
    for (arguments, input, code) in lines {
        let outcome = server.berth(arguments, input);
        let (stdout, stderr) = (server.steady(&outcome.stdout), server.steady(&outcome.stderr));
        assert_eq!(outcome.code, Some(*code), "{arguments:?}\n{stdout}\n{stderr}");
        let words: Vec<String> =
            arguments
                .iter()
                .map(|word| {
                    if word.contains([' ', '"']) || word.is_empty() { format!("'{word}'") } else { (*word).to_owned() }
                })
                .collect();
        write!(text, "$ berth {}   # {code}\n{stdout}", words.join(" ")).unwrap();
        // What is waited for depends on how fast this machine is.
        let waiting = |line: &&str| !line.starts_with("shop: ") && !line.ends_with(": it is being taken down");
        for line in stderr.lines().filter(waiting) {
            writeln!(text, "! {line}").unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_commands() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), free_port());
    let first = story(
        &server,
        &[
            (&["get", "plans"], "", 0),
            (&["apply", "-f", "-"], PLAN, 0),
            (&["apply", "-f", "-"], PLAN, 0),
            (&["apply", "-f", "-", "--dry-run"], PLAN_CHANGED, 0),
            (&["apply", "-f", "-"], PLAN_CHANGED, 0),
        ],
    );
    wait_for("the plan is looked at", || {
        let plan = server.berth(&["get", "plan", "tiny", "-o", "json"], "").stdout;
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        (plan["status"]["observedGeneration"] == 2).then_some(())
    });
    let second = story(
        &server,
        &[
            (&["get", "plans"], "", 0),
            (&["get", "plan/tiny", "-o", "wide"], "", 0),
            (&["get", "plan", "tiny", "nope"], "", 3),
            (&["get", "plan,cm,rt"], "", 0),
            (&["get", "plans,namespaces", "default"], "", 2),
            (&["get", "berth", "-o", "name"], "", 0),
            (&["get", "plans", "-l", "for=tests", "-o", "name"], "", 0),
            (&["get", "plans", "-l", "for=others"], "", 0),
            (&["get", "plans", "-l", "for in ("], "", 4),
            (&["get", "plan", "tiny", "-l", "for=tests"], "", 2),
            (&["get", "wagons"], "", 2),
            (&["get", "plan", "../namespaces"], "", 2),
            (&["get", "plan/"], "", 2),
            (&["get", "app", "shop", "-A"], "", 2),
            (&["get", "app", "-A"], "", 0),
            (&["get", "app", "-n", "nowhere"], "", 0),
            (&["get", "plans,ns", "--watch"], "", 2),
            (&["get", "plan", "nope", "--watch"], "", 3),
            (&["describe", "plan", "tiny"], "", 0),
            (&["describe", "plan", "nope"], "", 3),
            (&["apply", "-f", "-"], SECRET, 0),
            (&["apply", "-f", "-"], SECRET, 0),
            (&["describe", "secret/keys"], "", 0),
            (&["apply", "-f", "-"], TWO_NAMESPACES, 0),
            (&["get", "configmaps", "-A", "-l", "of=test"], "", 0),
            (&["apply", "-f", "-", "-n", "default"], TWO_NAMESPACES, 2),
            (&["apply", "-f", "-"], STOPPED, 0),
            (&["get", "app"], "", 0),
            (&["open", "shop"], "", 0),
            (&["open", "nope"], "", 3),
            (&["builds", "shop"], "", 0),
            (&["builds", "nope"], "", 3),
            (&["builds", "app/shop", "--log"], "", 3),
            (&["builds", "shop", "--log=nope"], "", 3),
            (&["logs", "nope"], "", 3),
            (&["logs", "plan/tiny"], "", 2),
            (&["logs", "shop"], "", 4),
            (&["restart", "shop"], "", 4),
            (&["restart", "nope"], "", 3),
            (&["deploy", "nope"], "", 3),
            (&["node", "list"], "", 0),
            (&["node", "token", "--ttl", "1s"], "", 4),
            (&["node", "token", "--region", "A b"], "", 4),
            (&["delete", "plan"], "", 2),
            (&["delete", "app/shop", "plan/nope"], "", 3),
            (&["delete", "plan", "nope", "--ignore-not-found"], "", 0),
            (&["delete", "-f", "-"], TWO_NAMESPACES, 0),
            (&["get", "app"], "", 0),
        ],
    );
    insta::assert_snapshot!(first + &second);
}

#[test]
fn every_example_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), free_port());
    let root = format!("{}/..", env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![format!("{root}/manifests"), format!("{root}/examples/kinds")];
    for example in ["nodejs", "python", "php", "static", "dockerfile", "image"] {
        paths.push(format!("{root}/examples/{example}/app.yaml"));
    }
    for path in paths {
        let outcome = server.berth(&["apply", "--no-wait", "-f", &path], "");
        assert_eq!(outcome.code, Some(0), "{path}: {}", outcome.stderr);
        assert!(!outcome.stdout.is_empty() && outcome.stdout.lines().all(|line| line.ends_with(" created")), "{path}");
        let outcome = server.berth(&["apply", "--no-wait", "-f", &path], "");
        assert!(outcome.stdout.lines().all(|line| line.ends_with(" unchanged")), "{path}: {}", outcome.stdout);
    }
}

#[test]
fn what_is_refused_names_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), free_port());
    let application = |spec: &str| {
        format!("apiVersion: berth.dev/v1alpha1\nkind: Application\nmetadata: {{name: bad}}\nspec: {{{spec}}}\n")
    };
    let image = "source: {image: {reference: a}}";
    let inputs = [
        application(&format!("{image}, plan: small, replicas: 2")),
        application(&format!("{image}, plan: small, instances: many")),
        application(&format!("{image}, plan: small, instances: 1001")),
        application(image),
        application("plan: small, source: {}"),
        application("plan: small, source: {image: {reference: 'a b'}}, domains: [shop]"),
        application("plan: small, source: {git: {url: 'https://me:hunter2@host/a.git'}}"),
        application("plan: small, source: {git: {url: 'https://host/a.git', branch: '--upload-pack=id'}}"),
        "apiVersion: berth.dev/v1alpha1\nkind: Wagon\nmetadata: {name: a}\n".to_owned(),
        "apiVersion: berth.dev/v2\nkind: Application\nmetadata: {name: a}\n".to_owned(),
        "kind: Application\nmetadata: {name: a}\n".to_owned(),
        "apiVersion: berth.dev/v1alpha1\nkind: Plan\nmetadata: {name: Big Plan}\nspec: {}\n".to_owned(),
        "a: [1\n".to_owned(),
        PLAN.replace("100m", "100x") + "---\n" + PLAN,
    ];
    let lines: Vec<Line<'_>> = inputs.iter().map(|input| (&["apply", "-f", "-"][..], input.as_str(), 4)).collect();
    let text = story(&server, &lines);
    assert!(!text.contains("hunter2"), "{text}");
    assert!(
        text.contains("plan.berth.dev/tiny created"),
        "a wrong one does not keep the next from being applied: {text}"
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_watch_shows_what_changes() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), free_port());
    assert_eq!(server.berth(&["apply", "-f", "-"], PLAN).code, Some(0));
    let mut command = crate::berth::program();
    command.env("KUBECONFIG", server.kubeconfig()).args(["get", "plan", "tiny", "--watch"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("NAME   FOR"));
    assert!(lines.next().unwrap().contains("100m"));
    assert_eq!(server.berth(&["apply", "-f", "-"], PLAN_CHANGED).code, Some(0));
    assert!(lines.any(|line| line.contains("200m")), "the change comes by itself");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn whoever_stops_reading_is_not_told_of_it() {
    use std::process::Stdio;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), free_port());
    let mut command = crate::berth::program();
    command.env("KUBECONFIG", server.kubeconfig()).args(["get", "namespaces", "-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
