//! A real `kubectl` against a real socket with TLS: what people will type.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use apiserver::clock::Clock;
use apiserver::pki;
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, World, eventually};

/// Longer than any command here takes on a busy machine.
const COMMAND_SECONDS_MAX: u64 = 60;

/// A kubectl with a server of its own.
pub(crate) struct Kubectl {
    program: PathBuf,
    home: tempfile::TempDir,
    pub(crate) world: World,
    shutdown: CancellationToken,
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' one setting, given by `make test`")]
fn program() -> PathBuf {
    std::env::var("BERTH_KUBECTL").expect("BERTH_KUBECTL names a kubectl 1.37; `make test` installs one").into()
}

impl Kubectl {
    pub(crate) async fn new() -> Self {
        Self::on(World::new().await).await
    }

    pub(crate) async fn on(world: World) -> Self {
        let home = tempfile::tempdir().unwrap();
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let pki = pki::load_or_create(&home.path().join("pki"), &hosts, &Clock::system()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority-data": base64::engine::general_purpose::STANDARD.encode(&pki.ca_pem)}}],
            "users": [{"name": "ada", "user": {"token": world.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "ada"}}],
        });
        std::fs::write(home.path().join("config"), config.to_string()).unwrap();
        let shutdown = CancellationToken::new();
        let (tls, router, token) = (pki.server_config().unwrap(), world.server.router(), shutdown.clone());
        apiserver::task::spawn("serve", async move { apiserver::serve(listener, tls, router, token).await.unwrap() });
        Self { program: program(), home, world, shutdown }
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        self.tool(&self.program, line)
    }

    /// Another program with the same settings.
    pub(crate) fn tool(&self, program: &Path, line: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(line.split(' '))
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("config"))
            // For `kubectl diff` and the editor's script.
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("KUBE_EDITOR", self.home.path().join("editor"))
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn output(&self, line: &str) -> Output {
        let output = self.command(line).output();
        tokio::time::timeout(Duration::from_secs(COMMAND_SECONDS_MAX), output)
            .await
            .unwrap_or_else(|_elapsed| panic!("too slow: kubectl {line}"))
            .unwrap()
    }

    /// What a command prints; it must succeed.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let output = self.output(line).await;
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{caller}: kubectl {line}\n{out}{err}");
            out.into_owned()
        }
    }

    /// What a command complains about; it must fail.
    pub(crate) async fn refused(&self, line: &str) -> String {
        let output = self.output(line).await;
        assert!(!output.status.success(), "kubectl {line} succeeded: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &Value) {
        std::fs::write(self.home.path().join(name), content.to_string()).unwrap();
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn path(&self) -> &Path {
        self.home.path()
    }
}

pub(crate) fn widget(size: i64) -> Value {
    json!({
        "apiVersion": "example.dev/v1", "kind": "Widget",
        "metadata": {"name": "web", "labels": {"tier": "front"}},
        "spec": {"size": size, "parts": [{"name": "a"}]}
    })
}

/// Lines of a table without the ages, which depend on the machine.
pub(crate) fn cells(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_find_what_there_is() {
    let kubectl = Kubectl::new().await;
    let resources = kubectl.run("api-resources").await;
    assert!(
        resources.lines().any(|line| {
            line.split_whitespace().collect::<Vec<_>>() == ["widgets", "wd", "example.dev/v1", "true", "Widget"]
        }),
        "{resources}"
    );
    assert!(kubectl.run("api-versions").await.contains("example.dev/v1"));
    let explained = kubectl.run("explain widget.spec").await;
    assert!(explained.contains("GROUP:      example.dev") && explained.contains("How large it is."), "{explained}");
    let explained = kubectl.run("explain widgets --recursive").await;
    assert!(explained.contains("colour") && explained.contains("parts"), "{explained}");
    assert!(kubectl.run("version").await.contains("v1.35.0+berth"));
    assert_eq!(kubectl.run("get --raw /readyz").await, "ok");
    assert!(kubectl.run("auth whoami").await.contains("ada"));
    assert_eq!(kubectl.run("auth can-i delete widgets").await.trim(), "yes");
    assert!(kubectl.run("auth can-i --list").await.contains("*.*"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_applied_changed_and_deleted() {
    let kubectl = Kubectl::new().await;
    kubectl.write("web.json", &widget(1));
    assert_eq!(kubectl.run("apply -f web.json").await.trim(), "widget.example.dev/web created");
    assert_eq!(kubectl.run("apply -f web.json").await.trim(), "widget.example.dev/web unchanged");
    assert_eq!(kubectl.run("diff -f web.json").await, "");
    kubectl.write("web2.json", &widget(2));
    let diff = kubectl.output("diff -f web2.json").await;
    let text = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&diff.stderr));
    assert!(text.contains("-  size: 1") && text.contains("+  size: 2"), "{text}");
    assert!(!text.contains("resourceVersion"), "a dry run shows no noise: {text}");
    assert_eq!(
        kubectl.run("apply -f web2.json --dry-run=server").await.trim(),
        "widget.example.dev/web configured (server dry run)"
    );
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.size}").await, "1");
    assert_eq!(kubectl.run("apply -f web2.json").await.trim(), "widget.example.dev/web configured");

    let table = kubectl.run("get widgets").await;
    assert_eq!(cells(&table)[0], ["NAME", "SIZE", "PHASE", "AGE"]);
    assert_eq!(cells(&table)[1][..2], ["web", "2"]);
    let wide = kubectl.run("get widgets -o wide").await;
    assert_eq!(cells(&wide)[0], ["NAME", "SIZE", "PHASE", "COLOUR", "AGE"]);
    assert_eq!(kubectl.run("get all -o name").await.trim(), "widget.example.dev/web");
    assert!(kubectl.run("get wd -A").await.starts_with("NAMESPACE"));
    assert!(kubectl.run("get wd -l tier=front -o name").await.contains("web"));
    assert_eq!(kubectl.run("get wd --field-selector spec.colour=green -o name").await, "");
    assert!(kubectl.run("get wd --sort-by=.spec.size").await.contains("web"));
    let yaml = kubectl.run("get wd web -o yaml").await;
    assert!(yaml.contains("generation: 2") && yaml.contains("colour: red"), "{yaml}");
    let described = kubectl.run("describe wd web").await;
    assert!(described.contains("Size:") && described.contains("Events:"), "{described}");

    kubectl.run("label wd web extra=yes").await;
    kubectl.run("annotate wd web note=read").await;
    kubectl.run(r#"patch wd web --type=merge -p {"spec":{"size":5}}"#).await;
    kubectl.run(r#"patch wd web --type=json -p [{"op":"replace","path":"/spec/colour","value":"green"}]"#).await;
    assert!(kubectl.refused(r#"patch wd web -p {"spec":{"size":6}}"#).await.contains("application/merge-patch+json"));
    assert_eq!(
        kubectl
            .run(
                "get wd web -o jsonpath={.spec.size}{.spec.colour}{.metadata.labels.extra}{.metadata.annotations.note}"
            )
            .await,
        "5greenyesread"
    );
    kubectl.run("scale wd web --replicas=3").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.replicas}").await, "3");
    kubectl.write("replace.json", &widget(8));
    kubectl.run("replace -f replace.json").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.size}{.spec.colour}").await, "8red");

    edit(&kubectl, "size: 8", "size: 9").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.size}").await, "9");

    assert!(kubectl.run("delete wd web --dry-run=server").await.contains("deleted"));
    kubectl.run("get wd web").await;
    assert!(kubectl.run("delete wd web").await.contains("deleted"));
    assert!(kubectl.refused("get wd web").await.contains(r#"widgets.example.dev "web" not found"#));
}

/// `kubectl edit` with an editor that replaces one text by another.
async fn edit(kubectl: &Kubectl, from: &str, to: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let editor = kubectl.path().join("editor");
    // A script of sed alone: the interpreter line runs it on the file that kubectl appends.
    std::fs::write(&editor, format!("#!/usr/bin/env -S sed -i -f\ns/{from}/{to}/\n")).unwrap();
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let edited = kubectl.run("edit wd web").await;
    assert!(edited.contains("edited"), "{edited}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_named() {
    let kubectl = Kubectl::new().await;
    let mut unknown = widget(1);
    unknown["spec"]["sise"] = json!(3);
    kubectl.write("unknown.json", &unknown);
    let error = kubectl.refused("apply -f unknown.json").await;
    assert!(error.contains(r#"strict decoding error: unknown field "spec.sise""#), "{error}");
    kubectl.write("negative.json", &widget(-1));
    let error = kubectl.refused("apply -f negative.json").await;
    assert!(
        error.contains(r#"The Widget "web" is invalid: spec.size: Invalid value: -1: "#)
            || error.contains("spec.size: Invalid value: -1: "),
        "{error}"
    );
    let error = kubectl.refused("get chairs").await;
    assert!(error.contains("doesn't have a resource type"), "{error}");
    let error = kubectl.refused("create -n nowhere -f negative.json --validate=ignore").await;
    assert!(error.contains(r#"namespaces "nowhere" not found"#), "{error}");
    // The same mistake in a later apply comes as a patch.
    kubectl.write("web.json", &widget(1));
    kubectl.run("apply -f web.json").await;
    let error = kubectl.refused("apply -f unknown.json").await;
    assert!(error.contains(r#"unknown field "spec.sise""#), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_and_watching_end_when_they_should() {
    let kubectl = Kubectl::new().await;
    kubectl.write("web.json", &widget(1));
    kubectl.run("apply -f web.json").await;
    let mut watch = kubectl.command("get wd -w").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut line = async || tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(line().await.starts_with("NAME"));
    assert!(line().await.starts_with("web"));
    let wait = kubectl.run("wait wd/web --for=condition=Ready --timeout=30s");
    let report = async {
        let status =
            json!({"status": {"phase": "Up", "replicas": 1, "conditions": [{"type": "Ready", "status": "True"}]}});
        kubectl.run(&format!("patch wd web --subresource=status --type=merge -p {status}")).await
    };
    let (waited, _) = tokio::join!(wait, report);
    assert!(waited.contains("condition met"), "{waited}");
    let changed = line().await;
    assert!(changed.contains("Up"), "{changed}");
    assert!(kubectl.run("get wd web --subresource=status").await.contains("Up"));
    kubectl.run("wait wd/web --for=jsonpath={.status.phase}=Up --timeout=30s").await;
    kubectl.run(r#"patch wd web --type=merge -p {"metadata":{"finalizers":["example.dev/hold"]}}"#).await;
    kubectl.run("delete wd web --wait=false").await;
    let release = async {
        // `get -w` is one watch and `wait` the other.
        let both = r#"apiserver_longrunning_requests{resource="widgets.example.dev"} 2"#;
        eventually("kubectl waits", async || kubectl.world.get("/metrics").await.text.contains(both)).await;
        kubectl.run(r#"patch wd web --type=merge -p {"metadata":{"finalizers":null}}"#).await
    };
    let (gone, _) = tokio::join!(kubectl.run("wait wd/web --for=delete --timeout=30s"), release);
    assert!(gone.contains("condition met"), "{gone}");
    watch.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn core_kinds_are_created_shown_and_removed() {
    let kubectl = Kubectl::new().await;
    kubectl.run("create namespace shop").await;
    kubectl.run("create secret generic key -n shop --from-literal=a=b").await;
    assert_eq!(kubectl.run("get secret key -n shop -o jsonpath={.data.a}").await, "Yg==");
    kubectl.run(r#"patch secret key -n shop -p {"stringData":{"c":"d"}}"#).await;
    assert_eq!(kubectl.run("get secret key -n shop -o jsonpath={.data}").await, r#"{"a":"Yg==","c":"ZA=="}"#);
    kubectl.run("create configmap settings -n shop --from-literal=x=y").await;
    assert!(kubectl.run("describe configmap settings -n shop").await.contains('y'));
    kubectl.write("web.json", &widget(1));
    kubectl.run("apply -n shop -f web.json").await;
    let uid = kubectl.run("get wd web -n shop -o jsonpath={.metadata.uid}").await;
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "web.1", "namespace": "shop"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Measure", "reason": "Measured", "type": "Normal",
        "note": "it is one long", "reportingController": "example.dev/test", "reportingInstance": "one",
        "regarding": {"apiVersion": "example.dev/v1", "kind": "Widget", "name": "web", "namespace": "shop", "uid": uid}
    });
    kubectl.world.post("/apis/events.k8s.io/v1/namespaces/shop/events", &event).await.expect(201);
    let events = kubectl.run("events -n shop --for widget.v1.example.dev/web").await;
    assert!(events.contains("Measured") && events.contains("it is one long"), "{events}");
    assert!(kubectl.run("get events -n shop").await.contains("Measured"));
    assert!(kubectl.run("describe wd web -n shop").await.contains("it is one long"));
    assert!(kubectl.run("describe namespace shop").await.contains("Active"));
    kubectl.run("delete namespace shop --timeout=30s").await;
    assert!(kubectl.refused("get namespace shop").await.contains("not found"));
    assert_eq!(kubectl.run("get wd,secrets,configmaps -A -o name").await, "");
}
