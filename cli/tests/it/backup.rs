//! Backups of servers that are written to, and servers made of them.

use std::path::Path;

use crate::berth::{Outcome, Server, free_port, program, run};
use crate::replicas::Database;

const SECRET: &str = "correct-horse-battery-staple";

fn berth(arguments: &[&str]) -> Outcome {
    let mut command = program();
    command.args(arguments);
    run(command, "")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn apply(server: &Server, name: &str) {
    let yaml = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: Grüße}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{a: {SECRET}}}\n"
    );
    assert_eq!(server.berth(&["apply", "-f", "-"], &yaml).code, Some(0));
}

fn revision(server: &Server, name: &str) -> u64 {
    let outcome = server.berth(&["get", "configmap", name, "--output", "json"], "");
    let object: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn stop(mut server: Server) {
    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}

/// A backup is made while the server is written to; what was there before is in it, and what the restored server writes is
/// newer than whatever a client of the old one has seen.
fn there_and_back(before: Option<&Database>, after: Option<&Database>) {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, file) = (folder.path().join("old"), folder.path().join("new"), folder.path().join("backup"));
    let port = free_port();
    let url = |database: Option<&Database>| {
        database.map_or_else(Vec::new, |database| vec![("BERTH_DATABASE_URL", database.url().to_owned())])
    };
    let start = |data: &Path, database: Option<&Database>| {
        let environment = url(database);
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, &**value)).collect();
        let server = Server::spawn_with(data, port, &environment);
        server.until_it_is_ready();
        server
    };
    let with = |database: Option<&Database>, arguments: &[&str]| {
        let mut command = program();
        command.envs(url(database)).args(arguments);
        run(command, "")
    };
    let server = start(&old, before);
    apply(&server, "kept");
    let written = server.berth(&["get", "configmap", "kept", "--output", "json"], "").stdout;
    let made = std::thread::scope(|scope| {
        let writing = scope.spawn(|| (0..20).for_each(|number| apply(&server, &format!("more-{number}"))));
        let made = with(before, &["backup", "create", "--data", text(&old), "--to", text(&file)]);
        writing.join().unwrap();
        made
    });
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    apply(&server, "lost");
    let newest = revision(&server, "lost");
    stop(server);

    let bytes = std::fs::read(&file).unwrap();
    let has = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(has("Grüße".as_bytes()) && !has(SECRET.as_bytes()) && !has(b"Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ"));
    let key = std::fs::read_to_string(old.join("pki/ca.key")).unwrap();
    assert!(!has(key.lines().nth(1).unwrap().as_bytes()), "the authority is sealed");

    std::fs::create_dir(&new).unwrap();
    let keyless = with(after, &["backup", "restore", text(&file), "--data", text(&new)]);
    assert!(keyless.code != Some(0) && keyless.stderr.contains("bring the file back"), "{}", keyless.stderr);
    std::fs::copy(old.join("master.key"), new.join("master.key")).unwrap();
    let restored = with(after, &["backup", "restore", text(&file), "--data", text(&new)]);
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
    let twice = with(after, &["backup", "restore", text(&file), "--data", text(&new)]);
    assert!(
        twice.code != Some(0) && (twice.stderr.contains("already") || twice.stderr.contains("not empty")),
        "{}",
        twice.stderr
    );

    let server = start(&new, after);
    assert_eq!(server.berth(&["get", "configmap", "kept", "--output", "json"], "").stdout, written);
    let secret = server.berth(&["get", "secret", "kept", "--output", "json"], "").stdout;
    assert!(secret.contains("Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ=="), "{secret}");
    assert_eq!(server.berth(&["get", "configmap", "lost"], "").code, Some(3));
    assert_eq!(std::fs::read_to_string(new.join("pki/ca.key")).unwrap(), key, "agents and kubeconfigs trust it still");
    apply(&server, "later");
    assert!(revision(&server, "later") > newest, "no revision is used twice");
    stop(server);
}

#[test]
fn a_store_in_a_file() {
    there_and_back(None, None);
}

#[test]
fn from_postgres_to_a_file() {
    there_and_back(Some(&Database::new()), None);
}

#[test]
fn from_a_file_to_postgres() {
    there_and_back(None, Some(&Database::new()));
}

#[test]
fn what_is_no_backup_is_told_from_one() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("backup"));
    let absent = berth(&["backup", "create", "--data", text(&data), "--to", text(&file)]);
    assert!(absent.code == Some(3) && absent.stderr.contains("there is no store"), "{}", absent.stderr);
    let server = Server::start(&data, free_port());
    apply(&server, "kept");
    let create = || berth(&["backup", "create", "--data", text(&data), "--to", text(&file)]);
    assert_eq!(create().code, Some(0));
    assert!(create().stderr.contains("already"));
    let verify = |file: &Path| berth(&["backup", "verify", text(file), "--data", text(&data)]);
    assert_eq!(verify(&file).code, Some(0));

    let whole = std::fs::read(&file).unwrap();
    let wrong = folder.path().join("wrong");
    // In the middle of a page of the store, of the archive's end, of nothing at all.
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for (content, what) in
        [(&changed[..], "changed"), (&whole[..whole.len() / 3], "cut off"), (b"", "empty"), (b"no archive", "text")]
    {
        std::fs::write(&wrong, content).unwrap();
        let told = verify(&wrong);
        assert!(told.code != Some(0) && told.stderr.contains("cannot be restored"), "{what}: {}", told.stderr);
    }
    // What a server that was killed has left would be taken for a part of what is restored.
    let new = tempfile::tempdir().unwrap();
    std::fs::copy(data.join("master.key"), new.path().join("master.key")).unwrap();
    for rest in ["berth.sqlite-wal", "berth.sqlite-journal", "series.sqlite", "series.sqlite-shm"] {
        std::fs::write(new.path().join(rest), "").unwrap();
        let told = berth(&["backup", "restore", text(&file), "--data", text(new.path())]);
        assert!(told.code == Some(4) && told.stderr.contains(rest), "{rest}: {}", told.stderr);
        std::fs::remove_file(new.path().join(rest)).unwrap();
    }
    assert_eq!(berth(&["backup", "restore", text(&file), "--data", text(new.path())]).code, Some(0));

    let key = std::fs::read_to_string(data.join("master.key")).unwrap();
    let other = berth(&["keys", "new"]).stdout;
    std::fs::write(data.join("master.key"), other).unwrap();
    let told = verify(&file);
    assert!(told.code != Some(0) && told.stderr.contains("which was not given"), "{}", told.stderr);
    assert!(!told.stderr.contains(key.lines().last().unwrap()));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing is left of the work: {left:?}");
}
