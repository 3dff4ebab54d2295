//! kube-rs inside of a Pod: programs, logs, ports.

use anyhow::{Context, bail, ensure};
use e2e::{Platform, until, within};
use futures::{AsyncBufReadExt as _, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, AttachParams, AttachedProcess, LogParams, TerminalSize};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};

const PORT: u16 = 8080;
/// Where nobody listens.
const CLOSED_PORT: u16 = 9;

/// One of a project's Pods, whose server writes a line for each request.
struct Target {
    pods: Api<Pod>,
    pod: String,
}

pub(crate) async fn story(platform: &Platform, namespace: &str, pod: &str) -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let kubeconfig = Kubeconfig::read_from(platform.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let target = Target { pods: Api::namespaced(Client::try_from(config)?, namespace), pod: pod.to_owned() };
    let told = async {
        target.runs_programs().await.context("exec")?;
        target.works_in_a_terminal().await.context("exec in a terminal")?;
        target.follows_the_log().await.context("logs")?;
        target.attaches().await.context("attach")?;
        target.is_told_of_a_closed_port().await.context("port-forward")
    };
    tokio::time::timeout(within(180), told).await.context("kube-rs takes too long")?
}

/// What a program without a terminal wrote, and its exit code.
async fn outcome(mut process: AttachedProcess) -> anyhow::Result<(String, String, i32)> {
    let (stdout, stderr) = (process.stdout().context("it has output")?, process.stderr().context("it has errors")?);
    let status = process.take_status().context("it has a status")?;
    let (stdout, stderr, status) = tokio::join!(text(stdout), text(stderr), status);
    process.join().await?;
    let status = status.context("it does not say how it ended")?;
    if status.status.as_deref() == Some("Success") {
        return Ok((stdout?, stderr?, 0));
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_ref()).into_iter().flatten();
    let code =
        causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode")).find_map(|cause| cause.message.clone());
    Ok((stdout?, stderr?, code.with_context(|| format!("{status:?}"))?.parse()?))
}

async fn text(mut stream: impl AsyncRead + Unpin) -> anyhow::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

impl Target {
    async fn runs_programs(&self) -> anyhow::Result<()> {
        let options = AttachParams::default();
        let command = ["bash", "-c", "echo out; echo err >&2; exit 7"];
        let ended = outcome(self.pods.exec(&self.pod, command, &options).await?).await?;
        ensure!(ended == ("out\n".to_owned(), "err\n".to_owned(), 7), "{ended:?}");
        // With input, which version 5 of the protocol can end.
        let mut sort = self.pods.exec(&self.pod, ["sort"], &AttachParams::default().stdin(true)).await?;
        let mut stdin = sort.stdin().context("it has input")?;
        stdin.write_all(b"b\na\n").await?;
        stdin.shutdown().await?;
        drop(stdin);
        let sorted = outcome(sort).await?;
        ensure!(sorted == ("a\nb\n".to_owned(), String::new(), 0), "{sorted:?}");
        // More than any buffer on the way holds.
        let large = self.pods.exec(&self.pod, ["head", "-c", "3000000", "/dev/zero"], &options).await?;
        let (zeroes, _, code) = outcome(large).await?;
        ensure!(zeroes.len() == 3_000_000 && code == 0, "{} bytes, {code}", zeroes.len());
        match self.pods.exec("nobody", ["true"], &options).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => bail!("not as expected: {error:?}"),
            Ok(_) => bail!("there is no such Pod"),
        }
    }

    async fn works_in_a_terminal(&self) -> anyhow::Result<()> {
        let mut shell = self.pods.exec(&self.pod, ["bash"], &AttachParams::interactive_tty()).await?;
        let mut resize = shell.terminal_size().context("it has a size")?;
        futures::SinkExt::send(&mut resize, TerminalSize { width: 77, height: 33 }).await?;
        let mut stdin = shell.stdin().context("it has input")?;
        stdin
            .write_all(b"until [ \"$(stty size)\" = '33 77' ]; do sleep 0.1; done; echo $((6 * 7)) it is; exit\n")
            .await?;
        let shown = text(shell.stdout().context("it has output")?).await?;
        ensure!(shown.contains("42 it is"), "{shown}");
        Ok(shell.join().await?)
    }

    async fn follows_the_log(&self) -> anyhow::Result<()> {
        let options = LogParams { follow: true, tail_lines: Some(1), ..LogParams::default() };
        let mut lines = self.pods.log_stream(&self.pod, &options).await?.lines();
        // Once it shows what is there already, it follows.
        lines.try_next().await?.context("no log comes")?;
        self.get("/debian_version?seen=by-kube-rs").await?;
        while !lines.try_next().await?.context("the log ended")?.contains("seen=by-kube-rs") {}
        let last = self.pods.logs(&self.pod, &LogParams { tail_lines: Some(1), ..LogParams::default() }).await?;
        ensure!(last.lines().count() == 1, "{last}");
        Ok(())
    }

    /// It shows what is written from now on, so requests come until it has shown one.
    async fn attaches(&self) -> anyhow::Result<()> {
        let mut attached = self.pods.attach(&self.pod, &AttachParams::default()).await?;
        let mut lines = BufReader::new(attached.stderr().context("it has errors")?).lines();
        let shown = async {
            while !lines.next_line().await?.context("attach ended")?.contains("seen=by-attached-kube-rs") {}
            Ok(())
        };
        let asked = until("attach shows a request", within(60), async || {
            self.get("/debian_version?seen=by-attached-kube-rs").await?;
            bail!("not yet")
        });
        tokio::select! {
            shown = shown => shown,
            asked = asked => asked,
        }
    }

    /// Asks its server through a forwarded port. It ends the connection, and the forwarder is not joined: to kube-rs it is
    /// an error that it cannot close what is closed already.
    async fn get(&self, path: &str) -> anyhow::Result<()> {
        let mut forwarder = self.pods.portforward(&self.pod, &[PORT]).await?;
        let mut connection = forwarder.take_stream(PORT).context("it has a connection")?;
        connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let answer = text(connection).await?;
        ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
        Ok(())
    }

    async fn is_told_of_a_closed_port(&self) -> anyhow::Result<()> {
        let mut forwarder = self.pods.portforward(&self.pod, &[CLOSED_PORT]).await?;
        let error = forwarder.take_error(CLOSED_PORT).context("it has errors")?;
        let error = error.await.context("nothing is said of it")?;
        ensure!(error.contains(&CLOSED_PORT.to_string()), "{error}");
        Ok(())
    }
}
