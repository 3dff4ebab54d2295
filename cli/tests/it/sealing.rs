//! Secrets in the files of a server: what a thief of the disk finds, and what becomes of a server without its key.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::berth::{Outcome, Server, free_port, program, run, wait_for};
use crate::replicas::Database;

const SECRET: &str = "correct-horse-battery-staple";
const OPEN: &str = "everybody-may-read-this";

fn objects() -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {{password: {SECRET}}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{a: {OPEN}}}\n---\n\
         apiVersion: berth.dev/v1alpha1\nkind: Application\nmetadata: {{name: shop}}\n\
         spec: {{source: {{image: {{reference: shop:1}}}}, plan: small, env: [{{name: TOKEN, value: {SECRET}}}]}}\n"
    )
}

/// Whether a text stands in bytes: in plain, in base64, or as PostgreSQL writes either of them where columns hold bytes.
fn is_in(bytes: &[u8], text: &str) -> bool {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let texts = [text.to_owned(), STANDARD.encode(text)];
    let all = texts.iter().cloned().chain(texts.iter().map(hex::encode));
    all.into_iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// Whether a text stands in any file of a folder.
fn stands(folder: &Path, text: &str) -> bool {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if std::fs::read(&path).is_ok_and(|bytes| is_in(&bytes, text)) {
                return true;
            }
        }
    }
    false
}

/// What a server says of the password and of the token that were given to it.
fn read(server: &Server) -> (bool, bool) {
    let password = server.berth(&["get", "secret", "keys", "-o", "json"], "").stdout;
    let token = server.berth(&["get", "application", "shop", "-o", "json"], "").stdout;
    (password.contains("Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ=="), token.contains(SECRET))
}

fn stop(mut server: Server) {
    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(0));
}

fn keys(server: &Server, arguments: &[&str]) -> Outcome {
    server.berth(&[&["keys"], arguments].concat(), "")
}

#[test]
fn no_file_has_a_secret_and_a_rotation_leaves_the_old_key_without_use() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let port = free_port();
    let server = Server::start(&data, port);
    let applied = server.berth(&["apply", "--no-wait", "-f", "-"], &objects());
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    assert_eq!(read(&server), (true, true));
    assert!(stands(&data, OPEN), "the search finds what is there");
    assert!(!stands(&data, SECRET), "while it runs");

    let file = data.join("master.key");
    let old = std::fs::read_to_string(&file).unwrap();
    let rotated = keys(&server, &["rotate", "--file", file.to_str().unwrap()]);
    assert_eq!(rotated.code, Some(0), "{}", rotated.stderr);
    let new = std::fs::read_to_string(&file).unwrap();
    let key = |text: &str| text.lines().last().unwrap().to_owned();
    assert_ne!(key(&old), key(&new));
    assert!(!new.contains(&key(&old)), "the old key is gone from the file");
    assert_eq!(read(&server), (true, true));
    let log = server.berth(&["audit", "--all-namespaces", "-o", "json"], "").stdout;
    assert!(log.contains("/api/paas/v1/keys/rotation") && !log.contains(SECRET), "{log}");
    for secret in [key(&old), key(&new)] {
        assert!(![&server.log(), &rotated.stdout, &rotated.stderr, &log].iter().any(|text| text.contains(&secret)));
    }
    stop(server);
    assert!(!stands(&data, SECRET), "when it is stopped");

    let refused = |why: &str, expected: &str| {
        let mut server = Server::spawn(&data, port);
        assert_ne!(server.ended().code(), Some(0), "{why}");
        let log = server.log();
        let last = log.lines().last().unwrap();
        assert!(last.contains(expected), "{why}: {last}");
    };
    std::fs::write(&file, &old).unwrap();
    refused("the old key", "the store is sealed with the master key");
    let aside = data.join("master.key.aside");
    std::fs::rename(&file, &aside).unwrap();
    refused("no key", "bring the file back, or say with --master-key-file");
    std::fs::rename(&aside, &file).unwrap();
    std::fs::write(&file, "hunter2\n").unwrap();
    refused("no key at all in it", "holds no master keys");
    std::fs::write(&file, &new).unwrap();
    let server = Server::start(&data, port);
    assert_eq!(read(&server), (true, true));
}

#[test]
fn a_rotation_that_is_killed_is_finished_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let port = free_port();
    let server = Server::start(&data, port);
    let mut many = String::new();
    for number in 0..300 {
        let secret = format!("kind: Secret\nmetadata: {{name: s{number}}}\nstringData: {{a: {SECRET}}}\n");
        many.push_str("---\napiVersion: v1\n");
        many.push_str(&secret);
    }
    assert_eq!(server.berth(&["apply", "-f", "-"], &many).code, Some(0));
    let file = data.join("master.key");
    let mut command = program();
    command.env("KUBECONFIG", server.kubeconfig()).args(["keys", "rotate", "--file"]).arg(&file);
    let mut rotating = command.spawn().unwrap();
    let lines = || std::fs::read_to_string(&file).unwrap().lines().filter(|line| !line.starts_with('#')).count();
    wait_for("the new key is in the file", || {
        if rotating.try_wait().unwrap().is_some() {
            // It was done before anybody looked.
            rotating = command.spawn().unwrap();
        }
        (lines() == 2).then_some(())
    });
    // Both at whatever they are doing.
    drop(server);
    rotating.kill().unwrap();
    rotating.wait().unwrap();

    let server = Server::start(&data, port);
    let again = keys(&server, &["rotate", "--file", file.to_str().unwrap()]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(lines(), 1);
    let status: serde_json::Value = serde_json::from_str(&keys(&server, &["status"]).stdout).unwrap();
    assert_eq!(status["needed"], serde_json::json!([status["primary"]]));
    stop(server);
    let server = Server::start(&data, port);
    let one = server.berth(&["get", "secret", "s299", "-o", "json"], "").stdout;
    assert!(one.contains("Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ=="), "{one}");
}

#[test]
fn the_master_key_comes_from_a_file_the_environment_or_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let port = free_port();
    let mut command = program();
    command.args(["keys", "new"]);
    let key = run(command, "").stdout;
    let (file, asked) = (folder.path().join("key"), folder.path().join("ask"));
    let private = |path: &Path, text: &str, mode: u32| {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    private(&file, &key, 0o600);
    // A program that prints what stands below its first line.
    private(&asked, &format!("#!/usr/bin/tail -n+2\n{key}"), 0o700);
    let (file, asked) = (file.to_str().unwrap(), asked.to_str().unwrap());
    let sources = [
        (None, vec!["--master-key-file", file]),
        (Some(("BERTH_MASTER_KEY", key.trim())), vec![]),
        (None, vec!["--master-key-command", asked]),
        (Some(("BERTH_MASTER_KEY_FILE", file)), vec![]),
        (Some(("BERTH_MASTER_KEY_COMMAND", asked)), vec![]),
    ];
    for (number, (variable, options)) in sources.into_iter().enumerate() {
        let server = Server::spawn_as(&data, port, variable.as_slice(), &options);
        server.until_it_is_ready();
        if number == 0 {
            let applied = server.berth(&["apply", "--no-wait", "-f", "-"], &objects());
            assert_eq!(applied.code, Some(0), "{}", applied.stderr);
        }
        assert_eq!(read(&server), (true, true), "source {number}, with {options:?}");
        stop(server);
    }
    assert!(!data.join("master.key").exists(), "no other key was made");
    assert!(stands(&data, OPEN) && !stands(&data, SECRET) && !stands(&data, key.trim()));

    let mut command = program();
    command.args(["keys", "new"]);
    let other = run(command, "").stdout;
    let mut server = Server::spawn_with(&data, port, &[("BERTH_MASTER_KEY", other.trim())]);
    assert_ne!(server.ended().code(), Some(0), "with another key");
    assert!(
        server.log().lines().last().unwrap().contains("the store is sealed with the master key"),
        "{}",
        server.log()
    );
}

#[test]
fn no_row_of_a_database_has_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new();
    let environment = [("BERTH_DATABASE_URL", database.url())];
    let server = Server::spawn_with(&folder.path().join("data"), free_port(), &environment);
    server.until_it_is_ready();
    let applied = server.berth(&["apply", "--no-wait", "-f", "-"], &objects());
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    assert_eq!(read(&server), (true, true));
    let dump = database.dump();
    assert!(is_in(dump.as_bytes(), OPEN), "the search finds what is there: {} bytes", dump.len());
    assert!(!is_in(dump.as_bytes(), SECRET), "while it runs");
    let log = server.log();
    stop(server);
    assert!(!is_in(database.dump().as_bytes(), SECRET), "when it is stopped");
    assert!(!stands(folder.path(), SECRET), "its folder has nothing of it either: {log}");
}

/// Rewrites a server's file of keys, the first one first.
fn put(server: &Server, keys: &[&str]) {
    std::fs::write(server.data.join("master.key"), keys.join("\n")).unwrap();
}

#[test]
fn of_several_servers_each_has_a_new_key_before_any_seals_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new();
    let start = |name: &str| {
        Server::spawn_with(&folder.path().join(name), free_port(), &[("BERTH_DATABASE_URL", database.url())])
    };
    let ready = |server: &Server| wait_for("it is ready", || (server.readiness() == "ok").then_some(()));
    let one = start("one");
    ready(&one);
    let file = one.data.join("master.key");
    std::fs::create_dir(folder.path().join("other")).unwrap();
    std::fs::copy(&file, folder.path().join("other/master.key")).unwrap();
    let other = start("other");
    ready(&other);

    let refused = keys(&one, &["rotate", "--file", file.to_str().unwrap()]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(refused.stderr.contains("behind the old one on every server"), "{}", refused.stderr);
    let text = std::fs::read_to_string(&file).unwrap();
    let old = text.lines().last().unwrap();
    let made = || {
        let mut command = program();
        command.args(["keys", "new"]);
        run(command, "").stdout.trim().to_owned()
    };
    let status =
        |server: &Server| -> serde_json::Value { serde_json::from_str(&keys(server, &["status"]).stdout).unwrap() };
    let given = |server: &Server, count: usize| {
        wait_for("it has the keys", || (status(server)["given"].as_array().unwrap().len() == count).then_some(()));
    };
    let write = |server: &Server, name: &str| {
        let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{a: {SECRET}}}\n");
        let applied = server.berth(&["apply", "-f", "-"], &secret);
        assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    };
    let new = made();
    for server in [&one, &other] {
        put(server, &[old, &new]);
        given(server, 2);
    }
    put(&one, &[&new, old]);
    let before = status(&other)["primary"].clone();
    wait_for("it seals with the new one", || (status(&one)["primary"] != before).then_some(()));
    // Where the database does not answer for seconds, a server answers by what it has: once is enough.
    let at_once = |name: &str| {
        write(&one, name);
        other.berth(&["get", "secret", name], "").code == Some(0)
    };
    assert!(["in-order", "in-order-2", "in-order-3"].into_iter().any(at_once));
    assert_eq!(other.readiness(), "ok");
    // Without the first of the two steps.
    let hasty = made();
    put(&one, &[&hasty, &new, old]);
    given(&one, 3);
    write(&one, "too-early");
    wait_for("a server that cannot follow is not ready", || {
        other.readiness().contains("[-]catching-up failed").then_some(())
    });
    put(&other, &[&new, old, &hasty]);
    ready(&other);
    assert_eq!(other.berth(&["get", "secret", "too-early"], "").code, Some(0));
}
