//! A real helm 4 with a chart of a kind of ours and one of Kubernetes'.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::kubectl::Kubectl;

/// Longer than any command here takes on a busy machine.
const COMMAND_SECONDS_MAX: u64 = 120;

#[expect(clippy::disallowed_methods, reason = "the tests' one setting, given by `make test`")]
fn program() -> PathBuf {
    std::env::var("BERTH_HELM").expect("BERTH_HELM names a helm 4; `make test` installs one").into()
}

/// A helm with a chart beside it.
struct Helm {
    kubectl: Kubectl,
    program: PathBuf,
}

const CHART: &[(&str, &str)] = &[
    ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 0.1.0\nappVersion: \"1\"\n"),
    ("values.yaml", "size: 1\ncolour: green\nextra: true\n"),
    (
        "templates/widget.yaml",
        "apiVersion: example.dev/v1\nkind: Widget\nmetadata:\n  name: {{ .Release.Name }}\n  labels:\n    app: {{ .Chart.Name }}\nspec:\n  size: {{ .Values.size }}\n  colour: {{ .Values.colour }}\n",
    ),
    (
        "templates/config.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-config\ndata:\n  size: {{ .Values.size | quote }}\n{{- if .Values.extra }}\n  extra: \"yes\"\n{{- end }}\n",
    ),
    ("templates/NOTES.txt", "The shop {{ .Release.Name }} has size {{ .Values.size }}.\n"),
];

impl Helm {
    async fn new() -> Self {
        let kubectl = Kubectl::new().await;
        let chart = kubectl.path().join("shop");
        std::fs::create_dir_all(chart.join("templates")).unwrap();
        for (file, content) in CHART {
            std::fs::write(chart.join(file), content).unwrap();
        }
        Self { kubectl, program: program() }
    }

    async fn output(&self, line: &str) -> (bool, String, String) {
        let output = self.kubectl.tool(&self.program, line).output();
        let output = tokio::time::timeout(Duration::from_secs(COMMAND_SECONDS_MAX), output).await;
        let output = output.unwrap_or_else(|_elapsed| panic!("too slow: helm {line}")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    async fn run(&self, line: &str) -> String {
        let (success, out, err) = self.output(line).await;
        assert!(success, "helm {line}\n{out}{err}");
        out
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{line} -o json")).await).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_installed_upgraded_rolled_back_and_removed() {
    let helm = Helm::new().await;
    let kubectl = &helm.kubectl;
    let installed = helm.run("install web shop --wait --timeout 60s").await;
    assert!(installed.contains("STATUS: deployed") && installed.contains("The shop web has size 1."), "{installed}");
    let shown = "get wd/web -o jsonpath={.spec.size}{.spec.colour}{.metadata.labels.app}";
    assert_eq!(kubectl.run(shown).await, "1greenshop");
    assert_eq!(kubectl.run("get cm/web-config -o jsonpath={.data}").await, r#"{"extra":"yes","size":"1"}"#);
    assert_eq!(helm.json("list").await[0]["status"], "deployed");
    let status = helm.json("status web").await;
    assert_eq!((&status["version"], &status["info"]["status"]), (&1.into(), &"deployed".into()));

    helm.run("upgrade web shop --set size=2 --set extra=false --wait --timeout 60s").await;
    assert_eq!(kubectl.run(shown).await, "2greenshop");
    assert_eq!(
        kubectl.run("get cm/web-config -o jsonpath={.data}").await,
        r#"{"size":"2"}"#,
        "what went from the chart is gone"
    );
    let managers =
        kubectl.run("get wd/web -o jsonpath={.metadata.managedFields[*].manager} --show-managed-fields").await;
    assert_eq!(managers, "helm");

    // What somebody else has changed is theirs until helm is told otherwise.
    kubectl.run(r#"patch wd web --type=merge --field-manager=painter -p {"spec":{"colour":"red"}}"#).await;
    let (success, _, error) = helm.output("upgrade web shop --set size=3 --wait --timeout 60s").await;
    assert!(!success && error.contains(r#"conflict with "painter""#) && error.contains(".spec.colour"), "{error}");
    helm.run("upgrade web shop --set size=3 --force-conflicts --wait --timeout 60s").await;
    assert_eq!(kubectl.run(shown).await, "3greenshop");

    helm.run("rollback web 1 --wait --timeout 60s").await;
    assert_eq!(kubectl.run(shown).await, "1greenshop");
    assert_eq!(kubectl.run("get cm/web-config -o jsonpath={.data}").await, r#"{"extra":"yes","size":"1"}"#);
    let history = helm.json("history web").await;
    let states: Vec<&str> = history.as_array().unwrap().iter().map(|r| r["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["superseded", "superseded", "failed", "superseded", "deployed"], "{history}");

    let removed = helm.run("uninstall web --wait --timeout 60s").await;
    assert!(removed.contains("uninstalled"), "{removed}");
    assert_eq!(kubectl.run("get wd,cm,secrets -o name").await, "");
    assert_eq!(helm.json("list").await, serde_json::json!([]));
}
