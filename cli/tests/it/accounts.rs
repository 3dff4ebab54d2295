//! People with passwords, from the terminal: signing in, tokens for programs, and how all of that ends, on one server and on
//! two.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::berth::{Outcome, Server, free_port, kubectl, program, run, wait_for};
use crate::replicas::{Database, start};

const GOOD: &str = "correct horse battery";
const OTHER: &str = "staple horse battery";

/// Somebody's terminal: a kubeconfig of their own.
struct Terminal {
    kubeconfig: PathBuf,
    server: String,
    authority: PathBuf,
}

impl Terminal {
    fn new(server: &Server, folder: &Path, name: &str) -> Self {
        Self {
            kubeconfig: folder.join(format!("{name}.kubeconfig")),
            server: format!("https://127.0.0.1:{}", server.port),
            authority: server.data.join("pki/ca.crt"),
        }
    }

    fn berth(&self, arguments: &[&str], input: &str) -> Outcome {
        let mut command = program();
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        run(command, input)
    }

    fn login(&self, name: &str, password: &str) -> Outcome {
        let authority = self.authority.to_str().unwrap();
        let arguments = ["login", "--server", &self.server, "--username", name, "--certificate-authority", authority];
        self.berth(&[&arguments[..], &["--password-file", "-"]].concat(), password)
    }

    fn kubectl(&self, arguments: &[&str]) -> Outcome {
        let mut command = kubectl(&self.kubeconfig);
        command.args(arguments);
        run(command, "")
    }

    /// Whether the server knows the context's credential.
    fn is_known(&self) -> bool {
        let outcome = self.kubectl(&["auth", "whoami", "-o", "json"]);
        assert!(outcome.code == Some(0) || outcome.stderr.contains("logged in"), "{}", outcome.stderr);
        outcome.code == Some(0)
    }

    fn token(&self) -> String {
        let config = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let config: Value = serde_saphyr::from_str(&config).unwrap();
        config["users"][0]["user"]["token"].as_str().unwrap().to_owned()
    }
}

#[track_caller]
fn done(outcome: Outcome) -> Outcome {
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    outcome
}

#[test]
fn a_person_from_the_first_password_to_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), free_port());
    let ann = Terminal::new(&server, folder.path(), "ann");
    done(server.berth(&["user", "create", "ann", "--group", "shop-dev", "--email", "ann@example.com"], ""));
    assert_eq!(ann.login("ann", GOOD).code, Some(5), "there is no password yet");
    let weak = server.berth(&["user", "password", "ann", "--password-file", "-"], "password123\n");
    assert_eq!((weak.code, weak.stderr.contains("tried first")), (Some(4), true), "{}", weak.stderr);
    done(server.berth(&["user", "password", "ann", "--password-file", "-"], GOOD));
    wait_for("the user can sign in", || {
        server.berth(&["user", "list"], "").stdout.lines().any(|line| line.starts_with("ann    True")).then_some(())
    });
    let list = done(server.berth(&["user", "list"], "")).stdout;
    let heading: Vec<&str> =
        list.lines().next().unwrap().split("   ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(heading, ["NAME", "READY", "DISPLAY NAME", "GROUPS", "DISABLED", "PASSWORD", "AGE"]);

    let wrong = ann.login("ann", OTHER);
    assert_eq!((wrong.code, wrong.stderr.contains("name or the password")), (Some(5), true), "{}", wrong.stderr);
    assert_eq!(ann.berth(&["login", "--server", "http://127.0.0.1:1", "--username", "a"], "").code, Some(2));
    let signed_in = done(ann.login("ann", GOOD));
    assert!(signed_in.stdout.starts_with("ann has signed in"), "{}", signed_in.stdout);
    let whoami = done(ann.kubectl(&["auth", "whoami", "-o", "json"])).stdout;
    let whoami: Value = serde_json::from_str(&whoami).unwrap();
    let info = &whoami["status"]["userInfo"];
    assert_eq!((&info["username"], &info["groups"][0]), (&Value::from("ann"), &Value::from("shop-dev")));

    // A role by name and one by group.
    let admin = Terminal { kubeconfig: server.kubeconfig(), ..Terminal::new(&server, folder.path(), "admin") };
    done(admin.kubectl(&["create", "namespace", "shop"]));
    done(admin.kubectl(&["create", "rolebinding", "dev", "--clusterrole=edit", "--group=shop-dev", "-n", "shop"]));
    done(ann.kubectl(&["create", "configmap", "one", "-n", "shop"]));
    assert_eq!(ann.kubectl(&["get", "users.berth.dev"]).code, Some(1));
    assert_eq!(ann.berth(&["user", "list"], "").code, Some(5));

    // A token for a program, good for little.
    let make = ["token", "create", "--description", "reads", "--verb", "get", "--verb", "list", "--resource"];
    let made = done(ann.berth(&[&make[..], &["configmaps", "--project", "shop", "--expires", "30d"]].concat(), ""));
    let secret = made.stdout.trim().to_owned();
    assert!(secret.starts_with("berth_token_"), "{secret}");
    let ci = Terminal::new(&server, folder.path(), "ci");
    let config = std::fs::read_to_string(&ann.kubeconfig).unwrap().replace(&ann.token(), &secret);
    std::fs::write(&ci.kubeconfig, config).unwrap();
    done(ci.kubectl(&["get", "configmaps", "-n", "shop"]));
    for refused in [
        &["get", "configmaps", "-n", "default"][..],
        &["get", "secrets", "-n", "shop"],
        &["delete", "configmap", "one", "-n", "shop"],
    ] {
        let outcome = ci.kubectl(refused);
        assert!(outcome.code == Some(1) && outcome.stderr.contains("Forbidden"), "{refused:?}: {}", outcome.stderr);
    }
    assert_eq!(ci.berth(&["token", "create", "--description", "more"], "").code, Some(5));
    let list = done(ann.berth(&["token", "list"], "")).stdout;
    assert!(list.contains("get,list configmaps in shop") && !list.contains(&secret), "{list}");
    let id = list.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    done(ann.berth(&["token", "revoke", id], ""));
    assert!(!ci.is_known());

    // Locked out, let in again, another password, and out.
    done(server.berth(&["user", "disable", "ann"], ""));
    assert!(!ann.is_known());
    assert_eq!(ann.login("ann", GOOD).code, Some(5));
    done(server.berth(&["user", "enable", "ann"], ""));
    done(ann.login("ann", GOOD));
    assert_eq!(std::fs::read_to_string(&ann.kubeconfig).unwrap().matches("berth_session_").count(), 1);
    let present = folder.path().join("present");
    std::fs::write(&present, GOOD).unwrap();
    let own = ["user", "password", "--password-file", "-", "--current-password-file", present.to_str().unwrap()];
    done(ann.berth(&own, OTHER));
    assert!(!ann.is_known(), "with the password its sessions end");
    assert_eq!(ann.login("ann", GOOD).code, Some(5));
    done(ann.login("ann", OTHER));
    let session = ann.token();
    done(ann.berth(&["logout"], ""));
    let config = std::fs::read_to_string(&ann.kubeconfig).unwrap();
    assert!(!config.contains("berth_session_"), "{config}");
    let again = ann.berth(&["logout"], "");
    assert_eq!(again.code, Some(2), "{}", again.stderr);
    assert_eq!(server.berth(&["logout"], "").code, Some(2), "the administrator's context is no session");

    let audit = done(server.berth(&["audit", "-A", "--resource", "users.berth.dev", "-o", "json"], "")).stdout;
    for part in ["\"session\"", "\"password\"", "\"token\"", "\"spec.disabled\""] {
        assert!(audit.contains(part), "{part} is not in {audit}");
    }
    let log = server.log();
    for secret in [GOOD, OTHER, "password123", &session, &secret, "argon2"] {
        assert!(!audit.contains(secret) && !log.contains(secret), "{secret} is told");
    }
    done(server.berth(&["user", "delete", "ann"], ""));
    assert_eq!(ann.login("ann", OTHER).code, Some(5));
}

#[test]
fn what_ends_on_one_server_ends_on_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new();
    let servers: Vec<Server> =
        (0..2).map(|number| start(&folder.path().join(number.to_string()), free_port(), database.url())).collect();
    for server in &servers {
        server.until_it_is_ready();
    }
    done(servers[0].berth(&["user", "create", "ann", "--password-file", "-"], GOOD));
    // The same session on both.
    let here = Terminal::new(&servers[0], folder.path(), "here");
    let there = Terminal::new(&servers[1], folder.path(), "there");
    let sign_in = |from: &Terminal, to: &Terminal, password: &str| {
        // Where the database does not answer for seconds, a server answers by what it has: once is enough.
        let at_once = || {
            done(from.login("ann", password));
            let config = std::fs::read_to_string(&from.kubeconfig).unwrap().replace(&from.server, &to.server);
            std::fs::write(&to.kubeconfig, config).unwrap();
            from.is_known() && to.is_known()
        };
        assert!((0..3).any(|_| at_once()), "a session that was just begun is known everywhere");
    };
    let gone = |terminal: &Terminal| wait_for("the session ends here too", || (!terminal.is_known()).then_some(()));
    sign_in(&here, &there, GOOD);
    done(there.berth(&["logout"], ""));
    gone(&here);
    sign_in(&there, &here, GOOD);
    done(servers[0].berth(&["user", "password", "ann", "--password-file", "-"], OTHER));
    gone(&there);
    assert_eq!(there.login("ann", GOOD).code, Some(5), "the password before is known to be old at once");
    sign_in(&there, &here, OTHER);
    done(servers[1].berth(&["user", "disable", "ann"], ""));
    gone(&here);
    gone(&there);
    assert_eq!(here.login("ann", OTHER).code, Some(5));
}
