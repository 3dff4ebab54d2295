//! `berth` in the hands of somebody who deploys: from a folder with a Git remote to what runs, its logs, its next version,
//! what goes wrong with it, and nothing left. Each command with its exit code, which scripts rely on.

use std::process::{Output, Stdio};

use anyhow::{Context, bail, ensure};
use e2e::{Platform, Repositories, berth, root, until, within};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Writes a line for each request.
const WEB: &str = "apiVersion: berth.dev/v1alpha1\nkind: Application\nmetadata: {name: web}\nspec:\n  \
    source: {image: {reference: 'berth/python:3.11'}}\n  plan: nano\n  \
    start: {command: 'python3 -u -m http.server 8080 --directory /etc', port: 8080}\n  rollout: {drain: 1s}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_deploys_with_the_commands() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    // Other platforms may share this machine's Docker: the name is this one's alone.
    let person = Person { platform: &platform, namespace: format!("hands-{}", platform.http_port()) };
    let outcome = story(&person).await;
    outcome.inspect_err(|_| platform.show_logs())
}

async fn story(person: &Person<'_>) -> anyhow::Result<()> {
    person.platform.kubectl(&["create", "namespace", &person.namespace]).await?;
    let repositories = Repositories::serve(person.platform).await?;
    let url = from_a_folder(person, &repositories).await?;
    next_version(person, &repositories, &url).await?;
    what_runs(person).await?;
    on_a_terminal(person).await?;
    what_goes_wrong(person, &repositories).await?;

    let gone = person.says(0, &["delete", "app/dockerfile", "application/web"]).await?;
    ensure!(gone.contains("application.berth.dev/dockerfile deleted"), "{gone}");
    person.says(3, &["get", "app", "web"]).await?;
    until("nothing is left of what was deleted", within(120), async || {
        let containers = person.platform.containers(&person.namespace).await?;
        ensure!(!containers.iter().any(|name| name.contains("web") || name.contains("dockerfile")), "{containers:?}");
        Ok(())
    })
    .await
}

/// `init` finds the remote, `apply` waits and prints the address, and there it is.
async fn from_a_folder(person: &Person<'_>, repositories: &Repositories) -> anyhow::Result<String> {
    let remote = repositories.create("dockerfile").await?;
    let folder = person.platform.folder().join("dockerfile");
    let cloned = Command::new("git").args(["clone", "--quiet", "--", &remote]).arg(&folder).status().await?;
    ensure!(cloned.success(), "git clone failed");
    let folder = folder.to_str().context("the folder's name is text")?;
    person.says(0, &["init", folder]).await?;
    let file = format!("{folder}/berth.yaml");
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.contains(&remote) && text.contains("branch: main") && text.contains("name: dockerfile"), "{text}");
    let again = person.run(&["init", folder]).await?;
    ensure!(again.status.code() == Some(4), "a file that is there is not overwritten");
    // What is taken down is not kept for long, as nobody is slow here.
    std::fs::write(&file, text + "  rollout: { drain: 1s }\n")?;

    let applied = person.run(&["apply", "-f", &file]).await?;
    let (said, progress) = (String::from_utf8(applied.stdout)?, String::from_utf8(applied.stderr)?);
    ensure!(applied.status.code() == Some(0), "{said}{progress}");
    let mut lines = said.lines();
    ensure!(lines.next() == Some("application.berth.dev/dockerfile created"), "{said}");
    let url = lines.next().and_then(|line| line.strip_prefix("application.berth.dev/dockerfile is served at "));
    let url = url.with_context(|| format!("no address: {said}"))?;
    // Where there is no terminal, what is waited for is a line each time it changes, without marks of a terminal.
    ensure!(progress.lines().filter(|line| line.starts_with("dockerfile: ")).count() >= 2, "{progress}");
    ensure!(!progress.contains('\u{1b}'), "{progress:?}");
    person.serves(url, "version 1").await?;
    ensure!(person.says(0, &["open", "dockerfile"]).await?.trim() == url, "the address is the same");
    let unchanged = person.says(0, &["apply", "-f", &file]).await?;
    ensure!(unchanged.contains("dockerfile unchanged") && unchanged.contains(url), "{unchanged}");
    Ok(url.to_owned())
}

/// `deploy` takes what was pushed, and its build can be followed to its end.
async fn next_version(person: &Person<'_>, repositories: &Repositories, url: &str) -> anyhow::Result<()> {
    let first = person.builds().await?;
    ensure!(first.len() == 1, "{first:?}");
    repositories.push_version("dockerfile", 2).await?;
    let (deployed, followed) = tokio::join!(person.says(0, &["deploy", "dockerfile"]), async {
        let name = until("there is a build of what was pushed", within(120), async || {
            let builds = person.builds().await?;
            let pushed = builds.iter().find(|build| build["spec"]["commit"] != first[0]["spec"]["commit"]);
            pushed.and_then(|build| build["metadata"]["name"].as_str()).map(str::to_owned).context("not yet")
        })
        .await?;
        person.says(0, &["builds", "dockerfile", &format!("--log={name}"), "-f"]).await
    });
    let (deployed, followed) = (deployed?, followed?);
    ensure!(deployed.contains(&format!("application.berth.dev/dockerfile is served at {url}")), "{deployed}");
    person.serves(url, "version 2").await?;
    let builds = person.builds().await?;
    let old = builds.iter().filter(|build| build["spec"]["commit"] == first[0]["spec"]["commit"]);
    ensure!(old.count() == 1, "what was known before the push was built again: {builds:?}");
    ensure!(followed.contains(r#"COPY ["source/server.py","source/VERSION""#), "the log of the build: {followed}");
    // It was followed to its end: whoever reads the newest one's log later reads the same.
    let later = person.says(0, &["builds", "dockerfile", "--log"]).await?;
    ensure!(later == followed, "followed: {followed}\nlater: {later}");
    let table = person.says(0, &["builds", "dockerfile"]).await?;
    ensure!(table.lines().filter(|line| line.contains("Succeeded")).count() >= 2, "{table}");
    Ok(())
}

/// `get`, `describe`, `logs`, `logs -f` and `restart` of something that runs.
async fn what_runs(person: &Person<'_>) -> anyhow::Result<()> {
    let file = person.file("web.yaml", WEB)?;
    let said = person.says(0, &["apply", "-f", &file]).await?;
    let url = said.rsplit_once(" is served at ").context("it is served")?.1.trim().to_owned();
    let table = person.says(0, &["get", "app"]).await?;
    ensure!(table.lines().any(|line| line.starts_with("web ") && line.contains(&url)), "{table}");
    let described = person.says(0, &["describe", "app", "web"]).await?;
    for word in ["Ready", "RolledOut", &url] {
        ensure!(described.contains(word), "no {word}: {described}");
    }
    person.serves(&format!("{url}/hostname?for=the-log"), "").await?;
    until("the request is in the log", within(60), async || {
        let log = person.says(0, &["logs", "web"]).await?;
        ensure!(log.contains("GET /hostname?for=the-log"), "{log}");
        Ok(())
    })
    .await?;

    let (mut following, mut lines) = person.follows(&["logs", "web", "-f", "--tail=0"])?;
    let seen = next_line_with(&mut lines, "for=the-follower");
    tokio::pin!(seen);
    // What was asked before the log is followed is not in what follows: it is asked until it is seen.
    until("the request is followed", within(60), async || {
        person.serves(&format!("{url}/hostname?for=the-follower"), "").await?;
        tokio::time::timeout(std::time::Duration::from_millis(500), &mut seen).await?
    })
    .await?;
    following.kill().await?;

    let before = person.web().await?;
    let said = person.says(0, &["restart", "web"]).await?;
    ensure!(said.contains(&url), "{said}");
    until("another container is the only one", within(60), async || {
        let after = person.web().await?;
        ensure!(after.len() == 1 && after != before, "{before:?} and then {after:?}");
        Ok(())
    })
    .await?;
    person.serves(&format!("{url}/hostname"), "").await
}

/// On a terminal, what is waited for is one line that changes in place and goes away.
async fn on_a_terminal(person: &Person<'_>) -> anyhow::Result<()> {
    let file = person.file("web.yaml", &WEB.replace("plan: nano", "plan: nano\n  env: [{name: A, value: B}]"))?;
    let output = Command::new("python3")
        .arg(root().join("tests/tests/it/terminal.py"))
        .arg(berth())
        .args(["apply", "-n", &person.namespace, "-f", &file])
        .env("BERTH_KUBECONFIG", person.platform.kubeconfig())
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run python3")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(0), "{text:?} {}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains("application.berth.dev/web configured"), "{text:?}");
    // The line is drawn again and again: it is cleared each time, and when there is no more to wait for.
    let drawn = text.matches("web: ").count();
    ensure!(drawn >= 2 && text.contains("\u{1b}["), "{drawn} in {text:?}");
    let end = text.rsplit("\u{1b}[").next().unwrap_or_default();
    ensure!(end.contains("application.berth.dev/web is served at http"), "{text:?}");
    ensure!(!end.contains("web: "), "a line of progress stays: {text:?}");
    Ok(())
}

/// What fails is told by the exit code, and by words that say what to do.
async fn what_goes_wrong(person: &Person<'_>, repositories: &Repositories) -> anyhow::Result<()> {
    repositories.push_broken("dockerfile").await?;
    let said = person.complains(8, &["deploy", "dockerfile"]).await?;
    let advice = said.lines().find_map(|line| line.split_once("berth builds ")).context("no advice")?.1;
    let log = person.says(0, &[&["builds"], &advice.split_whitespace().collect::<Vec<_>>()[..]].concat()).await?;
    ensure!(log.contains("/no-such-program"), "{log}");

    let missing = WEB.replace("name: web", "name: planless").replace("plan: nano", "plan: no-such-plan");
    let said = person.complains(8, &["apply", "-f", &person.file("planless.yaml", &missing)?]).await?;
    ensure!(said.contains("no-such-plan"), "{said}");

    let never = format!("{WEB}  health: {{path: /no-such-file, grace: 10m}}\n").replace("name: web", "name: never");
    let said = person.complains(7, &["apply", "--timeout=3", "-f", &person.file("never.yaml", &never)?]).await?;
    ensure!(said.contains("application never is not ready after"), "{said}");
    Ok(())
}

/// Somebody at the command line, in a project.
struct Person<'a> {
    platform: &'a Platform,
    namespace: String,
}

impl Person<'_> {
    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        // `init` needs no server, and so knows no project.
        let project = ["-n", &self.namespace];
        let project = if arguments[0] == "init" { &[][..] } else { &project };
        self.platform.berth(&[arguments, project].concat()).await
    }

    /// Runs a command that ends with this code. What it printed.
    async fn says(&self, code: i32, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run(arguments).await?;
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.code() == Some(code), "{arguments:?}: {}: {stdout}{stderr}", output.status);
        Ok(stdout)
    }

    /// Runs a command that ends with this code. What it said about it.
    async fn complains(&self, code: i32, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run(arguments).await?;
        let text = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(code), "{arguments:?}: {}: {text}", output.status);
        Ok(text)
    }

    /// Starts a command that goes on until it is ended.
    fn follows(&self, arguments: &[&str]) -> anyhow::Result<(Child, Lines<BufReader<ChildStdout>>)> {
        let mut child = Command::new(berth())
            .args(arguments)
            .args(["-n", &self.namespace])
            .env("BERTH_KUBECONFIG", self.platform.kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("it writes")?).lines();
        Ok((child, lines))
    }

    async fn serves(&self, url: &str, text: &str) -> anyhow::Result<()> {
        let (status, body) = self.platform.get(url).await?;
        ensure!(status == 200 && body.contains(text), "{url}: {status}: {body}");
        Ok(())
    }

    /// The builds of `dockerfile`.
    async fn builds(&self) -> anyhow::Result<Vec<Value>> {
        let list: Value = serde_json::from_str(&self.says(0, &["builds", "dockerfile", "-o", "json"]).await?)?;
        Ok(list["items"].as_array().context("a list has items")?.clone())
    }

    fn file(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let file = self.platform.folder().join(name);
        std::fs::write(&file, text)?;
        Ok(file.to_str().context("the folder's name is text")?.to_owned())
    }

    /// The containers of `web`.
    async fn web(&self) -> anyhow::Result<Vec<String>> {
        let all = self.platform.containers(&self.namespace).await?;
        Ok(all.into_iter().filter(|name| name.contains("-web-")).collect())
    }
}

async fn next_line_with(lines: &mut Lines<BufReader<ChildStdout>>, text: &str) -> anyhow::Result<()> {
    while let Some(line) = lines.next_line().await? {
        if line.contains(text) {
            return Ok(());
        }
    }
    bail!("it ended before it wrote {text:?}")
}
