//! Builds on a real Docker, of real repositories: `BERTH_DOCKER_HOST` says where it is (`scripts/dockerd ensure`), and
//! `images/build` must have made the base images there.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![expect(clippy::print_stdout, reason = "what a failed build said is shown")]

mod build_support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use build_support::{GitServer, git, left_over, task};
use crds::application::BuildArg;
use crds::build::BuildPhase;
use node_agent::build::{BuildSettings, Builds};
use node_agent::docker::Docker;
use node_agent::machine::{Builder as _, Containers as _, Image, LogSink};
use node_protocol::{BuildObservation, BuildTask};
use tokio::time::timeout;

/// Longer than any build here takes, packages fetched and all.
const PATIENCE: Duration = Duration::from_secs(400);

struct Bench {
    docker_host: String,
    node: String,
    docker: Arc<Docker>,
    folder: tempfile::TempDir,
    git: GitServer,
}

impl Bench {
    async fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test has no command line to be told on")]
        let host = std::env::var("BERTH_DOCKER_HOST").expect("BERTH_DOCKER_HOST is set: scripts/dockerd ensure");
        let node = uuid::Uuid::new_v4().to_string();
        let docker = Arc::new(Docker::new(&host, &node).unwrap());
        Self { docker_host: host, node, docker, folder: tempfile::tempdir().unwrap(), git: GitServer::start().await }
    }

    fn builds(&self) -> Builds<Docker> {
        self.builds_with(|_| ())
    }

    fn builds_with(&self, change: impl FnOnce(&mut BuildSettings)) -> Builds<Docker> {
        let mut settings = BuildSettings::new(self.folder.path().to_owned());
        settings.source_networks = vec![self.git.address.into()];
        let system = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
        settings.extra_ca_file = Some(system).filter(|file| file.is_file());
        change(&mut settings);
        Builds::new(Arc::clone(&self.docker), settings).unwrap()
    }

    async fn build(&self, builds: &Builds<Docker>, task: &BuildTask) -> (BuildObservation, String) {
        let log = Arc::new(Mutex::new(String::new()));
        builds.run(task, sink(&log));
        let ended = self.ended(builds, &task.uid).await;
        let log = log.lock().unwrap().clone();
        println!("{ended:#?}\n{log}");
        (ended, log)
    }

    async fn ended(&self, builds: &Builds<Docker>, uid: &str) -> BuildObservation {
        timeout(PATIENCE, async {
            loop {
                if let Some(build) =
                    builds.observe().into_iter().find(|build| build.uid == uid && build.phase.is_final())
                {
                    return build;
                }
                builds.changed().await;
            }
        })
        .await
        .unwrap()
    }

    /// Runs an image as an instance is run, and gets a page of it.
    async fn page(&self, image: &str, path: &str) -> String {
        let docker = |args: &[&str]| {
            let mut command = std::process::Command::new("docker");
            let output = command.env("DOCKER_HOST", &self.docker_host).args(args).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().to_owned() + String::from_utf8_lossy(&output.stderr).trim()
        };
        let hardened = "run -d --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp --pids-limit 256 \
                        --memory 256m --env PORT=8080";
        let id = docker(&hardened.split_whitespace().chain([image]).collect::<Vec<_>>());
        let address = docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &id]);
        let client = reqwest::Client::new();
        let mut body = String::new();
        for _ in 0..300 {
            if let Ok(answer) = client.get(format!("http://{address}:8080{path}")).send().await {
                body = format!("{} {}", answer.status().as_u16(), answer.text().await.unwrap());
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if body.is_empty() {
            body = format!("no answer; its log: {}", docker(&["logs", &id]));
        }
        docker(&["rm", "-f", &id]);
        body
    }

    async fn tidy(&self) {
        for image in self.docker.built_images().await.unwrap() {
            // An older image of a stage has lost its name to the newer one.
            let named = image.tags.iter().filter(|tag| !tag.contains("<none>"));
            let names: Vec<&String> = named.chain([&image.id]).collect();
            for name in names {
                drop(self.docker.remove_image(name).await);
            }
        }
        for network in self.docker.networks().await.unwrap() {
            // Docker's builder may still be about to end a container of a build that hung up.
            let removing = async {
                while let Err(error) = self.docker.remove_network(&network.name).await {
                    println!("{}: {error}", network.name);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            timeout(Duration::from_mins(1), removing).await.expect("the network can be removed");
        }
        let left = left_over(&self.docker_host, &format!("dev.berth.node={}", self.node));
        assert!(left.values().all(String::is_empty), "{left:?}");
    }
}

fn sink(log: &Arc<Mutex<String>>) -> LogSink {
    let log = Arc::clone(log);
    Arc::new(move |text: &str| log.lock().unwrap().push_str(text))
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// Builds an example, runs it, and gets a page of it.
async fn example(name: &str, runtime: &str, path: &str, expected: &str) {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let url = bench.git.repository_of(name, &examples().join(name));
    let task = task(name, &url);
    let (ended, log) = bench.build(&builds, &task).await;
    assert_eq!(ended.phase, BuildPhase::Succeeded, "{:?}\n{log}", ended.failure);
    assert_eq!(ended.runtime.as_deref(), Some(runtime));
    assert_eq!(ended.port, Some(8080));
    let commit = ended.commit.unwrap();
    assert_eq!((commit.author.as_str(), commit.message.as_str()), ("Ada Lovelace", "Say hello"));
    assert_eq!(commit.sha, git(&bench.git.folder.path().join(format!("{name}.git")), &["rev-parse", "main"]));
    let digest = ended.digest.unwrap();
    assert!(digest.starts_with("sha256:") && ended.image.as_ref() == Some(&task.image));
    let image = bench.docker.image(&digest).await.unwrap().unwrap();
    assert_eq!(image.labels["dev.berth.build"], task.uid);
    assert!(name == "dockerfile" || image.user == "65532:65532", "{}", image.user);

    let page = bench.page(&task.image, path).await;
    assert!(page.starts_with("200") && page.contains(expected), "{page}");
    builds.forget(&task.uid);
    assert!(builds.observe().is_empty());
    assert_eq!(std::fs::read_dir(bench.folder.path().join("builds")).unwrap().count(), 0);
    bench.tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodejs_is_built() {
    example("nodejs", "nodejs-20", "/", "Hello from Berth (nodejs) version 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_is_built() {
    example("python", "python-3.11", "/", "Hello from Berth (python) version 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn php_is_built() {
    example("php", "php-8.2", "/", "php").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_site_is_built() {
    example("static", "static", "/", "Hello from Berth (static) version 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_is_built() {
    example("dockerfile", "dockerfile", "/", "Hello from Berth (dockerfile) version 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_to_do() {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let broken = bench.git.repository(
        "broken",
        &[("package.json", r#"{"scripts":{"build":"echo thinking; node -e 'process.exit(3)'","start":"node x.js"}}"#)],
    );
    let (ended, log) = bench.build(&builds, &task("broken", &broken)).await;
    let failure = ended.failure.unwrap();
    assert_eq!((ended.phase, failure.reason.as_str(), ended.exit_code), (BuildPhase::Failed, "CommandFailed", Some(3)));
    assert!(failure.message.contains("npm run build"), "{failure:?}");
    let line = usize::try_from(failure.line.unwrap()).unwrap();
    assert!(line >= 1 && line <= log.lines().count());

    let reason = async |task: BuildTask| {
        let (ended, _) = bench.build(&builds, &task).await;
        let failure = ended.failure.unwrap();
        assert!(failure.hint.is_some(), "{failure:?}");
        (failure.reason, failure.message)
    };
    let (name, message) = reason(task("absent", &broken.replace("broken", "absent"))).await;
    assert!(name == "CloneFailed" && message.contains("not found"), "{message}");

    let mut other = task("branch", &broken);
    other.git.branch = "nope".to_owned();
    let (name, message) = reason(other).await;
    assert!(name == "CloneFailed" && message.contains("nope"), "{message}");

    let mut other = task("path", &broken);
    other.git.path = "web".to_owned();
    let (name, message) = reason(other).await;
    assert!(name == "CloneFailed" && message.contains("no folder web"), "{message}");

    let (name, message) = reason(task("private", &broken.replace(&bench.git.address.to_string(), "127.0.0.1"))).await;
    assert!(name == "CloneFailed" && message.contains("private address"), "{message}");

    let nothing = bench.git.repository("nothing", &[("notes", "hello")]);
    assert_eq!(reason(task("nothing", &nothing)).await.0, "RuntimeNotDetected");

    let absent = bench.git.repository("base", &[("Dockerfile", "FROM berth-no-such-image.invalid/x:1\nCMD [\"x\"]\n")]);
    assert_eq!(reason(task("base", &absent)).await.0, "ImageNotFound");

    let hungry = bench.git.repository(
        "hungry",
        &[(
            "Dockerfile",
            "FROM berth/nodejs:20-build\nRUN node -e \"const a=[];for(;;)a.push(Buffer.alloc(1e7,1))\"\nCMD [\"x\"]\n",
        )],
    );
    let (name, message) = reason(BuildTask { memory_bytes: 256 << 20, ..task("hungry", &hungry) }).await;
    assert!(name == "OutOfMemory" && message.contains("256 MiB"), "{name} {message}");
    bench.tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_signs_in_is_used_and_never_shown() {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let url = bench.git.repository("private", &[("index.html", "<html>secret garden")]);
    let (ended, _) = bench.build(&builds, &task("closed", &url)).await;
    assert!(ended.failure.unwrap().hint.unwrap().contains("credentials"));

    let mut open = task("open", &url);
    (open.git.username, open.git.password) = (Some("robot".to_owned()), Some("tok/en@7f3a9c".to_owned()));
    let (ended, log) = bench.build(&builds, &open).await;
    assert_eq!(ended.phase, BuildPhase::Succeeded);
    assert!(!log.contains("7f3a9c") && !format!("{ended:?}").contains("7f3a9c"));
    let docker = std::process::Command::new("docker")
        .env("DOCKER_HOST", &bench.docker_host)
        .args(["history", "--no-trunc", &open.image])
        .output();
    assert!(!String::from_utf8_lossy(&docker.unwrap().stdout).contains("7f3a9c"));
    bench.tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_and_time_end_what_was_started() {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let url = bench.git.repository(
        "slow",
        &[("Dockerfile", "FROM berth/debian:12\nARG N\nRUN echo began $N && sleep 300\nCMD [\"x\"]\n")],
    );
    let arg = |value: &str| vec![BuildArg { name: "N".to_owned(), value: value.to_owned() }];

    let mut cancelled = task("slow", &url);
    cancelled.options.args = arg(&cancelled.uid);
    let log = Arc::new(Mutex::new(String::new()));
    builds.run(&cancelled, sink(&log));
    let began = format!("began {}", cancelled.uid);
    timeout(PATIENCE, async {
        while !log.lock().unwrap().lines().any(|line| line == began) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    // A second build waits for its turn, and can be cancelled there.
    let waiting = task("waiting", &url);
    builds.run(&waiting, sink(&log));
    builds.run(&BuildTask { cancel: true, ..waiting.clone() }, sink(&log));
    assert_eq!(bench.ended(&builds, &waiting.uid).await.phase, BuildPhase::Cancelled);
    builds.run(&BuildTask { cancel: true, ..cancelled.clone() }, sink(&log));
    let ended = bench.ended(&builds, &cancelled.uid).await;
    assert_eq!((ended.phase, ended.failure.unwrap().reason.as_str()), (BuildPhase::Cancelled, "Cancelled"));

    let mut late = task("late", &url);
    late.options.args = arg(&late.uid);
    late.timeout_milliseconds = 6000;
    let (ended, _) = bench.build(&builds, &late).await;
    assert_eq!(ended.failure.unwrap().reason, "TimedOut");
    // Docker's builder needs a moment to end the container of a build that hung up.
    timeout(Duration::from_mins(1), async {
        loop {
            let mut docker = std::process::Command::new("docker");
            let running = docker.env("DOCKER_HOST", &bench.docker_host).args(["ps", "--no-trunc"]).output().unwrap();
            let running = String::from_utf8_lossy(&running.stdout).into_owned();
            if !running.contains("sleep 300") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("no container of a build is left");

    // The next agent knows how it ended, and does not build again.
    drop(builds);
    let next = bench.builds();
    next.run(&late, sink(&log));
    let known = next.observe().into_iter().find(|build| build.uid == late.uid).unwrap();
    assert_eq!(known.phase, BuildPhase::Failed);
    bench.tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_branch_left_behind_is_built() {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let url = bench.git.repository("moved", &[("index.html", "<html>first")]);
    let work = bench.git.folder.path().join("moved.work");
    let first = git(&work, &["rev-parse", "HEAD"]);
    std::fs::write(work.join("index.html"), "<html>second").unwrap();
    bench.git.publish("moved", &work);
    let mut pinned = task("moved", &url);
    pinned.git.commit = Some(first.clone());
    let (ended, _) = bench.build(&builds, &pinned).await;
    assert_eq!((ended.phase, ended.commit.unwrap().sha), (BuildPhase::Succeeded, first));
    assert_eq!(bench.page(&pinned.image, "/").await, "200 <html>first");
    bench.tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_builds_on_another_applications_image() {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let site = bench.git.repository("site", &[("index.html", "<html>mine")]);
    let mut mine = task("site", &site);
    mine.image = format!("test-{}:latest", &mine.uid[..8]);
    assert_eq!(bench.build(&builds, &mine).await.0.phase, BuildPhase::Succeeded);
    let thief = bench.git.repository("thief", &[("Dockerfile", &format!("FROM {}\nCMD [\"x\"]\n", mine.image))]);
    let failure = bench.build(&builds, &task("thief", &thief)).await.0.failure.unwrap();
    assert!(failure.reason == "DockerfileRefused" && failure.message.starts_with("line 1 "), "{failure:?}");
    bench.tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_take_from_one_another() {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let dockerfile = "ARG BASE=berth/nodejs:20-build\nFROM ${BASE} AS base\nWORKDIR /w\nUSER 0:0\n\
        FROM base AS build\nRUN test -s \"$SSL_CERT_FILE\" && test -s \"$PIP_CERT\" && mkdir -p out/deep && echo '<html>made in a stage' > out/index.html && echo one > out/deep/a.txt \\\n\
        && ln -s /etc/absolute out/link && ln out/deep/a.txt out/deep/same.txt && chmod 640 out/deep/a.txt\n\
        FROM base AS unneeded\nRUN exit 9\n\
        FROM berth/static:1\nCOPY --from=build --chown=65532:65532 /w/out/ /srv/\n\
        COPY --from=build --chown=65532:65532 /w/out/deep/*.txt /srv/flat/\nCOPY --from=berth/nodejs:20 /opt/node/bin/node /srv/node\n";
    let url = bench.git.repository("stages", &[("docker/web.Dockerfile", dockerfile), ("x", "y")]);
    let mut staged = task("stages", &url);
    staged.options.dockerfile = Some("docker/web.Dockerfile".to_owned());
    let (ended, log) = bench.build(&builds, &staged).await;
    assert_eq!(ended.phase, BuildPhase::Succeeded, "{log}");
    assert_eq!(bench.page(&staged.image, "/").await, "200 <html>made in a stage\n");
    assert_eq!(bench.page(&staged.image, "/flat/same.txt").await, "200 one\n");
    // The second time everything is there already.
    let again = BuildTask { uid: task("x", "").uid, ..staged };
    let (ended, log) = bench.build(&builds, &again).await;
    assert_eq!(ended.phase, BuildPhase::Succeeded);
    assert!(log.contains("Using cache") || !log.contains("Running in"), "{log}");
    bench.tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_is_the_source_and_nothing_of_ours() {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let dockerfile = "FROM berth/debian:12 AS made\nRUN echo made > /made\n\
        FROM berth/debian:12\nARG PART=fold\n\
        COPY --from=made /made /all/\nCOPY --from=berth/nodejs:20 /opt/node/bin/node /all/\n\
        COPY . /all/\nADD / /added/\nCOPY ./* /flat/\nCOPY [\"./${PART}er\", \"/named/\"]\nCOPY folder/../kept.txt a* /two/\n\
        RUN cd / && echo listed && ls -d all/* all/.[!.]* added/* added/.[!.]* flat/* flat/.[!.]* named/* two/*\n\
        CMD [\"x\"]\n";
    let files = [
        ("Dockerfile", dockerfile),
        (".dockerignore", "secret.env\n"),
        ("kept.txt", "x"),
        ("a", "x"),
        ("b", "x"),
        ("secret.env", "x"),
        ("folder/inner.txt", "x"),
    ];
    let url = bench.git.repository("copies", &files);
    let (ended, log) = bench.build(&builds, &task("copies", &url)).await;
    assert_eq!(ended.phase, BuildPhase::Succeeded, "{log}");
    let listed = log.lines().skip_while(|line| *line != "listed").skip(1);
    let mut listed: Vec<&str> = listed.take_while(|line| line.contains('/') && !line.contains(' ')).collect();
    listed.sort_unstable();
    let expected = "added/.dockerignore added/Dockerfile added/a added/b added/folder added/kept.txt \
        all/.dockerignore all/Dockerfile all/a all/b all/folder all/kept.txt all/made all/node \
        flat/.dockerignore flat/Dockerfile flat/a flat/b flat/inner.txt flat/kept.txt named/inner.txt two/a two/kept.txt";
    assert_eq!(listed, expected.split_whitespace().collect::<Vec<_>>());
    bench.tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_repository_reaches_nothing() {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let dockerfile = "FROM berth/debian:12\nCOPY . /srv/\n\
        RUN printf '\\033[2J\\033]0;title\\007danger\\n'; ls -A /srv; id -u; \\\n\
        (exec 3<>/dev/tcp/169.254.169.254/80) 2>/dev/null && echo reached; test -e /var/run/docker.sock && echo socket; exit 0\n\
        CMD [\"x\"]\n";
    let files = [
        ("Dockerfile", dockerfile),
        (".dockerignore", "secret.env\n"),
        (".gitattributes", "* filter=evil\nkept.txt export-ignore\n*.txt export-subst\n"),
        (".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c id\n"),
        (".lfsconfig", "[lfs]\n\turl = http://169.254.169.254/\n"),
        ("kept.txt", "$Format:%H$"),
        ("secret.env", "x"),
        ("-rf", "x"),
        ("$(id)", "x"),
        ("a b;c", "x"),
    ];
    let url = bench.git.repository("hostile", &files);
    let work = bench.git.folder.path().join("hostile.work");
    std::os::unix::fs::symlink("../../../../etc/shadow", work.join("out")).unwrap();
    std::os::unix::fs::symlink("/proc/self/environ", work.join("environ")).unwrap();
    std::os::unix::fs::symlink("kept.txt", work.join("inside")).unwrap();
    bench.git.publish("hostile", &work);
    let (ended, log) = bench.build(&builds, &task("hostile", &url)).await;
    assert_eq!(ended.phase, BuildPhase::Succeeded, "{log}");
    assert!(log.lines().any(|line| line == "danger"), "{log}");
    assert!(
        !log.contains('\u{1b}')
            && !log.lines().any(|line| line == "reached")
            && !log.lines().any(|line| line == "socket"),
        "{log}"
    );
    let listed: Vec<&str> =
        log.lines().skip_while(|line| *line != "danger").skip(1).take_while(|line| !line.starts_with("Step")).collect();
    for kept in ["kept.txt", "-rf", "$(id)", "a b;c", "inside"] {
        assert!(listed.contains(&kept), "{kept}: {listed:?}");
    }
    for gone in ["out", "environ", "secret.env", ".git", "berth", ".berth.Dockerfile"] {
        assert!(!listed.contains(&gone), "{gone}: {listed:?}");
    }
    assert!(log.contains("\"out\" is left out: it leads out of the source"), "{log}");
    for (name, text) in [
        ("frontend", "# syntax=docker/dockerfile:1-labs\nFROM berth/debian:12\nCMD [\"x\"]\n"),
        ("insecure", "FROM berth/debian:12\nRUN --security=insecure id\n"),
        ("host", "FROM berth/debian:12\nRUN --network=host id\n"),
        ("add", "FROM berth/debian:12\nADD http://169.254.169.254/latest/ /x\n"),
        ("quoted", "FROM berth/debian:12\nADD 'http://169.254.169.254/latest/' /x\n"),
        ("escaped", "FROM berth/debian:12\nADD h\\ttp://169.254.169.254/latest/ /x\n"),
        ("json", "FROM berth/debian:12\nADD [\"\\u0068ttp://169.254.169.254/latest/\", \"/x\"]\n"),
    ] {
        let url = bench.git.repository(name, &[("Dockerfile", text)]);
        let failure = bench.build(&builds, &task(name, &url)).await.0.failure.unwrap();
        assert_eq!(failure.reason, "DockerfileRefused", "{failure:?}");
    }
    bench.tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_made_cannot_be_built_from() {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let docker = |args: &[&str]| {
        let output = std::process::Command::new("docker").env("DOCKER_HOST", &bench.docker_host).args(args).output();
        let output = output.unwrap();
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let secret = format!("FROM berth/debian:12\nRUN echo {} > /secret\nRUN exit 7\n", bench.node);
    let url = bench.git.repository("failed", &[("Dockerfile", &secret)]);
    let theirs = task("failed", &url);
    let (ended, log) = bench.build(&builds, &theirs).await;
    assert_eq!(ended.phase, BuildPhase::Failed, "{log}");
    let cache = format!("{}/{}", theirs.namespace, theirs.application);
    let of_this = |image: &Image| image.labels.get("dev.berth.cache") == Some(&cache);
    // What a failed build left has no name; give it one, and one to an image with instructions for whoever builds from it.
    let left: Vec<Image> = bench.docker.unfinished_images().await.unwrap().into_iter().filter(of_this).collect();
    let newest = left.iter().max_by_key(|image| image.created).expect("the layers of a failed build stay");
    let (named, triggering) = (format!("left-{}:1", bench.node), format!("triggers-{}:1", bench.node));
    docker(&["tag", &newest.id, &named]);
    let container = docker(&["create", "berth/debian:12", "true"]);
    docker(&["commit", "--change", "ONBUILD ADD http://169.254.169.254/ /x", &container, &triggering]);
    docker(&["rm", &container]);
    let hex = newest.id.trim_start_matches("sha256:");
    for (name, text) in [
        ("named", format!("FROM {named}\nCMD [\"x\"]\n")),
        ("carried", format!("FROM berth/debian:12\nCOPY --from={named} /secret /\nCMD [\"x\"]\n")),
        ("begin", format!("FROM {}\nCMD [\"x\"]\n", &hex[..5])),
        ("trigger", format!("FROM {triggering}\nCMD [\"x\"]\n")),
    ] {
        let url = bench.git.repository(name, &[("Dockerfile", &text)]);
        let another = BuildTask { namespace: "another".to_owned(), ..task(name, &url) };
        let failure = bench.build(&builds, &another).await.0.failure.unwrap();
        assert_eq!(failure.reason, "DockerfileRefused", "{name}: {failure:?}");
    }
    for image in [named, triggering].iter().chain(left.iter().map(|image| &image.id)) {
        drop(bench.docker.remove_image(image).await);
    }
    let after = bench.docker.unfinished_images().await.unwrap();
    assert!(!after.iter().any(|image| image.id == newest.id), "what a failed build left can be removed");
    bench.tidy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_ends_when_the_disk_is_nearly_full() {
    let bench = Bench::new().await;
    let builds = bench.builds_with(|settings| settings.free_bytes_min = u64::MAX);
    let url = bench.git.repository("full", &[("Dockerfile", "FROM berth/debian:12\nRUN sleep 600\n")]);
    let (ended, log) = bench.build(&builds, &task("full", &url)).await;
    let failure = ended.failure.unwrap();
    assert!(failure.message.contains("too little room"), "{failure:?} {log}");
    bench.tidy().await;
}

/// A name, files, and the page that they serve.
type Case<'a> = (&'a str, Vec<(&'a str, String)>, &'a str);

#[tokio::test(flavor = "multi_thread")]
async fn every_package_manager_is_called_as_it_wants() {
    let bench = Bench::new().await;
    let builds = bench.builds();
    let node =
        "const ok=require('is-odd')(3);require('http').createServer((q,s)=>s.end('odd '+ok)).listen(process.env.PORT)";
    let package =
        r#"{"name":"x","version":"1.0.0","scripts":{"start":"node server.js"},"dependencies":{"is-odd":"3.0.1"}"#;
    let python =
        "import six\ndef app(environ, start):\n    start('200 OK', [])\n    return [b'six ' + six.__name__.encode()]\n";
    let server = "web: gunicorn --bind 0.0.0.0:$PORT main:app\n";
    let yarn = "# yarn lockfile v1\n\n\nis-number@^6.0.0:\n  version \"6.0.0\"\n  resolved \"https://registry.yarnpkg.com/is-number/-/is-number-6.0.0.tgz\"\n\nis-odd@3.0.1:\n  version \"3.0.1\"\n  resolved \"https://registry.yarnpkg.com/is-odd/-/is-odd-3.0.1.tgz\"\n  dependencies:\n    is-number \"^6.0.0\"\n";
    let site = r#"{"name":"x","version":"1.0.0","scripts":{"build":"mkdir -p dist && cp index.html dist/"},"devDependencies":{"vite":"*"}}"#;
    let cases: [Case<'_>; 6] = [
        ("npm", vec![("package.json", format!("{package}}}")), ("server.js", node.to_owned())], "200 odd true"),
        (
            "yarn",
            vec![
                ("package.json", format!("{package}}}")),
                ("server.js", node.to_owned()),
                ("yarn.lock", yarn.to_owned()),
            ],
            "200 odd true",
        ),
        (
            "pnpm",
            vec![
                ("package.json", format!("{package},\"packageManager\":\"pnpm@10.0.0\"}}")),
                ("server.js", node.to_owned()),
            ],
            "200 odd true",
        ),
        (
            "pipenv",
            vec![
                ("Pipfile", "[packages]\nsix='*'\ngunicorn='*'\n".to_owned()),
                ("main.py", python.to_owned()),
                ("Procfile", server.to_owned()),
            ],
            "200 six six",
        ),
        (
            "pyproject",
            vec![
                (
                    "pyproject.toml",
                    "[project]\nname='x'\nversion='1'\nrequires-python='>=3.9'\ndependencies=['six','gunicorn']\n"
                        .to_owned(),
                ),
                ("main.py", python.to_owned()),
                ("Procfile", server.to_owned()),
            ],
            "200 six six",
        ),
        (
            "vite",
            vec![
                (
                    "package.json",
                    site.replace(
                        ",\"devDependencies\":{\"vite\":\"*\"}",
                        ",\"devDependencies\":{\"vite\":\"npm:is-odd@3.0.1\"}",
                    ),
                ),
                ("index.html", "<html>built".to_owned()),
            ],
            "200 <html>built",
        ),
    ];
    for (name, files, expected) in cases {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let url = bench.git.repository(name, &files);
        let task = task(name, &url);
        let (ended, log) = bench.build(&builds, &task).await;
        assert_eq!(ended.phase, BuildPhase::Succeeded, "{name}: {:?}\n{log}", ended.failure);
        assert_eq!(bench.page(&task.image, "/").await, expected, "{name}");
    }
    bench.tidy().await;
}
