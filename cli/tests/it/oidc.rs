//! People of an identity provider: a certified one, at which somebody signs in with a browser, and a server that takes its
//! tokens.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::berth::{Server, free_port, program, run, wait_for};

/// Signing in takes some ten requests; a loaded machine gets this long.
const PATIENCE: Duration = Duration::from_mins(1);

/// The provider, as a program of its own.
struct Provider {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
    port: u16,
}

impl Provider {
    /// Starts it with the certificate of a server's folder.
    fn start(data: &Path, port: u16) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the tests' settings come in through the environment")]
        let packages = std::env::var("BERTH_NODE_CLIENTS").expect("run the tests with `make test`");
        let pki = data.join("pki");
        let mut child = Command::new("node")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/clients/node/provider.mjs"))
            .arg(port.to_string())
            .args([pki.join("server.crt"), pki.join("server.key")])
            .env("BERTH_NODE_CLIENTS", packages)
            .env("NODE_EXTRA_CA_CERTS", pki.join("ca.crt"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let commands = child.stdin.take().unwrap();
        let provider = Self { child, commands, lines, port };
        provider.line(|line| line == "ready");
        provider
    }

    fn issuer(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The next line that is one of ours: the provider gives its operator advice between them.
    fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("the provider answers");
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Signs somebody in: their ID token.
    fn login(&mut self, name: &str) -> String {
        writeln!(self.commands, "login {name}").unwrap();
        self.line(|line| line.starts_with("eyJ"))
    }

    fn rotate(&mut self) {
        writeln!(self.commands, "rotate").unwrap();
        self.line(|line| line == "rotated");
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Who the server says a token is of; `None` if it does not know it.
fn whoami(server: &Server, token: &str) -> Option<Value> {
    let mut command = Command::new("curl");
    command
        // Some versions of curl take an answer that does not wait for the body for a broken one under HTTP/2.
        .args(["--silent", "--show-error", "--http1.1", "--cacert"])
        .arg(server.data.join("pki/ca.crt"))
        .args(["--header", "@-", "--header", "content-type: application/json", "--data", "{}"])
        .arg(format!("https://127.0.0.1:{}/apis/authentication.k8s.io/v1/selfsubjectreviews", server.port));
    let outcome = run(command, &format!("authorization: Bearer {token}\n"));
    let answer: Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{}{}", outcome.stdout, outcome.stderr));
    if answer["kind"] == "SelfSubjectReview" {
        return Some(answer["status"]["userInfo"].clone());
    }
    assert_eq!(answer["code"], 401, "{answer}");
    None
}

fn start(data: &Path, provider: &Provider, ca: &Path, more: &[&str]) -> Server {
    let issuer = provider.issuer();
    let ca = ca.to_str().unwrap();
    let mut arguments = vec!["--oidc-issuer-url", &issuer, "--oidc-client-id", "berth", "--oidc-ca-file", ca];
    arguments.extend(more);
    let server = Server::spawn_as(data, free_port(), &[], &arguments);
    server.until_it_is_ready();
    server
}

#[test]
fn people_of_an_identity_provider() {
    let folder = tempfile::tempdir().unwrap();
    // One that knows no provider, and has a certificate that the provider can use.
    let plain = Server::start(&folder.path().join("plain"), free_port());
    let ca = plain.data.join("pki/ca.crt");
    let mut provider = Provider::start(&plain.data, free_port());
    let claims = ["--oidc-username-prefix", "oidc:", "--oidc-groups-claim", "groups", "--oidc-groups-prefix", "oidc:"];
    let server = start(&folder.path().join("sub"), &provider, &ca, &claims);
    let ann = provider.login("ann");
    let me = wait_for("the provider's token is known", || whoami(&server, &ann));
    assert_eq!(me["username"], "oidc:ann");
    assert_eq!(me["groups"], serde_json::json!(["oidc:dev", "oidc:ops", "system:authenticated"]));
    assert_eq!(whoami(&plain, &ann), None, "elsewhere it is nobody's");
    let (signed, signature) = ann.rsplit_once('.').unwrap();
    for bad in
        [format!("{signed}."), format!("{signed}.{}", signature.to_uppercase()), format!("{ann}x"), signed.to_owned()]
    {
        assert_eq!(whoami(&server, &bad), None);
    }
    // A role for a group of the provider's.
    let bound = server.berth(&["apply", "-f", "-"], BINDING);
    assert_eq!(bound.code, Some(0), "{}", bound.stderr);
    let kubeconfig = std::fs::read_to_string(server.kubeconfig()).unwrap();
    let config: Value = serde_saphyr::from_str(&kubeconfig).unwrap();
    let admin = config["users"][0]["user"]["token"].as_str().unwrap();
    let anns = folder.path().join("ann.kubeconfig");
    std::fs::write(&anns, kubeconfig.replace(admin, &ann)).unwrap();
    let as_ann = |arguments: &[&str]| {
        let mut command = program();
        command.env("KUBECONFIG", &anns).args(arguments);
        run(command, "").code
    };
    assert_eq!(as_ann(&["get", "configmaps"]), Some(0));
    assert_eq!(as_ann(&["get", "secrets"]), Some(5));
    assert_eq!(as_ann(&["token", "create", "--description", "x"]), Some(5), "it is no session");

    // Whatever a provider says, nobody of its people is one of Kubernetes' own.
    let raw = ["--oidc-username-prefix", "-", "--oidc-groups-claim", "groups", "--oidc-groups-prefix", ""];
    let trusting = start(&folder.path().join("raw"), &provider, &ca, &raw);
    let eve = provider.login("eve");
    let eve = wait_for("the provider's token is known", || whoami(&trusting, &eve));
    assert_eq!(eve["groups"], serde_json::json!(["system:authenticated"]));
    drop(trusting);
    let mail = start(&folder.path().join("mail"), &provider, &ca, &["--oidc-username-claim", "email"]);
    let me = wait_for("the provider's token is known", || whoami(&mail, &ann));
    assert_eq!(me["username"], "ann@example.com");
    assert_eq!(whoami(&mail, &provider.login("bob")), None, "the address is not verified");
    drop(mail);

    // Another key, of which the server hears when it is needed; the old one ends with it.
    provider.rotate();
    let next = provider.login("ann");
    wait_for("the new key is known", || whoami(&server, &next));
    assert_eq!(whoami(&server, &ann), None);
    // The provider goes away: everything else works, and what was known stays known.
    let port = provider.port;
    drop(provider);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(whoami(&server, &next).is_some());
    assert_eq!(server.berth(&["get", "namespaces"], "").code, Some(0));
    // To a server that has not heard of it yet, its tokens are nobody's, and the log says why.
    let port = port.to_string();
    let away = Server::spawn_as(
        &folder.path().join("away"),
        free_port(),
        &[],
        &["--oidc-issuer-url", &format!("https://127.0.0.1:{port}"), "--oidc-client-id", "berth"],
    );
    away.until_it_is_ready();
    assert_eq!(whoami(&away, &next), None);
    assert_eq!(away.berth(&["get", "namespaces"], "").code, Some(0));
    let log = away.log();
    assert!(log.contains("the identity provider's keys cannot be had") && log.contains("onnection refused"), "{log}");
    assert!(!log.contains(&next) && !server.log().contains(&ann), "a token is never told");
}

const BINDING: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: dev, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'oidc:dev'}]
";
