//! `make up` and `make down` as a person runs them on one machine: to a served application, again, down, and up again with
//! the same data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context, ensure};
use e2e::{berth, free_ports, root, setting, until, within};
use serde_json::Value;
use tokio::process::Command;

/// What the scripts are told by their environment, and the folder with all that they leave.
struct Machine {
    folder: tempfile::TempDir,
    settings: BTreeMap<&'static str, String>,
}

impl Machine {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("berth-up-").tempdir()?;
        let mut settings = BTreeMap::from([
            ("BERTH_DATA", folder.path().join("data").to_string_lossy().into_owned()),
            // No other is built for the test.
            ("BERTH_PROGRAM", berth().to_string_lossy().into_owned()),
            ("DOCKER_HOST", setting("BERTH_DOCKER_HOST")),
        ]);
        let names = ["BERTH_API_PORT", "BERTH_HTTP_PORT", "BERTH_HTTPS_PORT", "BERTH_GIT_PORT"];
        settings.extend(names.into_iter().zip(free_ports(names.len()).iter().map(ToString::to_string)));
        Ok(Self { folder, settings })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn run(&self, script: &str) -> anyhow::Result<String> {
        let program = root().join("scripts").join(script);
        let output = Command::new(&program).envs(&self.settings).stdin(Stdio::null()).output().await;
        said(&output.with_context(|| program.display().to_string())?)
    }

    /// Runs the command that `up` prints, as it is. The page.
    async fn page(&self, told: &str) -> anyhow::Result<String> {
        let line = told.lines().find(|line| line.trim_start().starts_with("curl ")).context("no address is printed")?;
        let words: Vec<&str> = line.split_whitespace().skip(1).map(|word| word.trim_matches('\'')).collect();
        said(&Command::new("curl").args(["--fail", "--silent", "--show-error"]).args(words).output().await?)
    }

    async fn application(&self) -> anyhow::Result<Value> {
        let kubeconfig = self.data().join("server").join("admin.kubeconfig");
        let arguments = ["get", "application", "nodejs", "-o", "json"];
        let output = Command::new(berth()).args(arguments).env("BERTH_KUBECONFIG", kubeconfig).output().await?;
        Ok(serde_json::from_str(&said(&output)?)?)
    }

    /// The containers of an application, also those that have ended.
    async fn containers(&self, uid: &str) -> anyhow::Result<Vec<String>> {
        let filter = format!("label=dev.berth.application-uid={uid}");
        let mut docker = Command::new("docker");
        docker.args(["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]).envs(&self.settings);
        Ok(said(&docker.output().await?)?.lines().map(str::to_owned).collect())
    }

    /// The programs that are kept running, by their process ids.
    fn programs(&self) -> anyhow::Result<Vec<Value>> {
        let read = |name| -> anyhow::Result<Value> {
            let text = std::fs::read(self.data().join("run").join(format!("{name}.json")))?;
            Ok(serde_json::from_slice::<Value>(&text)?["pid"].take())
        };
        ["server", "agent", "git"].into_iter().map(read).collect()
    }

    /// The processes that were started with something in the data folder: the server, the agent, Nginx, Git.
    fn processes(&self) -> anyhow::Result<BTreeMap<u32, String>> {
        let data = self.data().to_string_lossy().into_owned();
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            // It may have ended since it was listed.
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&data) {
                found.insert(pid, line);
            }
        }
        Ok(found)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let script = root().join("scripts").join("down");
        // Why the test failed is worth more than that this did too.
        drop(std::process::Command::new(script).envs(&self.settings).stdin(Stdio::null()).output());
    }
}

fn said(output: &Output) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_again_down_and_up_with_the_same_data() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let told = machine.run("up").await?;
    let page = machine.page(&told).await.context("after the first start")?;
    ensure!(page.contains("Hello from Berth (nodejs)"), "{page}");
    let first = machine.application().await?;
    let uid = first["metadata"]["uid"].as_str().context("it has a uid")?;
    let (processes, programs, containers) = (machine.processes()?, machine.programs()?, machine.containers(uid).await?);
    for what in [" server ", " agent ", " git serve ", "nginx"] {
        ensure!(processes.values().any(|line| line.contains(what)), "no {what}: {processes:?}");
    }
    ensure!(containers.len() == 1, "{containers:?}");

    // Again: everything is as it was.
    let again = machine.run("up").await?;
    ensure!(again.contains("application.berth.dev/nodejs unchanged"), "{again}");
    ensure!(machine.page(&told).await.context("after the second start")? == page, "another page");
    let again = machine.application().await?;
    ensure!(again["metadata"]["uid"] == uid && again["spec"] == first["spec"], "{again}");
    ensure!(again["status"]["activeRelease"] == first["status"]["activeRelease"], "it was deployed anew: {again}");
    ensure!(machine.containers(uid).await? == containers, "another container");
    let still = machine.programs()?;
    ensure!(still == programs, "{programs:?} and then {still:?}: {:?}", machine.processes()?);

    machine.run("down").await?;
    until("no process is left", within(60), async || {
        let left = machine.processes()?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    let left = machine.containers(uid).await?;
    ensure!(left.is_empty(), "{left:?}");
    ensure!(machine.page(&told).await.is_err(), "something still answers");
    ensure!(machine.data().join("server/berth.sqlite").is_file(), "the data is gone");

    let told = machine.run("up").await?;
    ensure!(machine.page(&told).await.context("after the third start")? == page, "another page");
    let back = machine.application().await?;
    ensure!(back["metadata"]["uid"] == uid, "another object: {back}");
    ensure!(back["status"]["latestBuild"] == first["status"]["latestBuild"], "it was built anew: {back}");
    Ok(())
}
