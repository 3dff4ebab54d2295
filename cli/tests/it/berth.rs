//! Runs the program and servers of its own, each in a folder of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub(crate) use e2e::free_port;
use regex::Regex;

/// More than a loaded machine needs for anything that is waited for here.
const PATIENCE: Duration = Duration::from_mins(1);

/// The program, with nothing of this machine's environment but the way to Git.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", "/nonexistent");
    command
}

/// What a command wrote, and how it ended.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn run(mut command: Command, input: &str) -> Outcome {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that does not read ends before it was written to.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Waits until `look` finds something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut waited = Duration::ZERO;
    let step = Duration::from_millis(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(waited < PATIENCE, "waited too long: {what}");
        std::thread::sleep(step);
        waited += step;
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) data: PathBuf,
    pub(crate) port: u16,
    child: Child,
    /// How much those before it had logged.
    log_from: usize,
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub(crate) fn start(data: &Path, port: u16) -> Self {
        let server = Self::spawn(data, port);
        server.until_it_is_ready();
        server
    }

    pub(crate) fn until_it_is_ready(&self) {
        wait_for(&format!("the server is ready; its log: {}", self.log()), || (self.readiness() == "ok").then_some(()));
    }

    /// Starts a server.
    pub(crate) fn spawn(data: &Path, port: u16) -> Self {
        Self::spawn_with(data, port, &[])
    }

    /// Starts a server with settings in its environment.
    pub(crate) fn spawn_with(data: &Path, port: u16, environment: &[(&str, &str)]) -> Self {
        Self::spawn_as(data, port, environment, &[])
    }

    /// Starts a server with more options.
    pub(crate) fn spawn_as(data: &Path, port: u16, environment: &[(&str, &str)], options: &[&str]) -> Self {
        std::fs::create_dir_all(data).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(data.join("log")).unwrap();
        let log_from = usize::try_from(log.metadata().unwrap().len()).unwrap();
        let child = program()
            .envs(environment.iter().copied())
            .args(["server", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(data)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { data: data.to_owned(), port, child, log_from }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("log")).unwrap()
    }

    /// Why it ended, as it has told people. Its tasks may have logged something after that.
    pub(crate) fn complaint(&self) -> Option<String> {
        self.log()[self.log_from..].lines().find(|line| line.starts_with("berth: ")).map(str::to_owned)
    }

    /// Runs a command as the server's administrator.
    pub(crate) fn berth(&self, arguments: &[&str], input: &str) -> Outcome {
        let mut command = program();
        command.env("KUBECONFIG", self.kubeconfig()).args(arguments);
        run(command, input)
    }

    /// What it says of its readiness.
    pub(crate) fn readiness(&self) -> String {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let mut config = kube::Config::new(format!("https://127.0.0.1:{}", self.port).parse().unwrap());
        config.accept_invalid_certs = true;
        config.default_retry = false;
        let ask = async {
            let client = kube::Client::try_from(config).unwrap();
            match client.request_text(http::Request::get("/readyz").body(Vec::new()).unwrap()).await {
                Ok(text) => text,
                Err(kube::Error::Api(status)) => status.message.clone(),
                Err(error) => error.to_string(),
            }
        };
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // In a thread of its own: tests that have a runtime ask too.
        std::thread::scope(|scope| scope.spawn(|| runtime().block_on(ask)).join().unwrap())
    }

    pub(crate) fn signal(&self, which: &str) {
        assert!(Command::new("kill").args([which, &self.child.id().to_string()]).status().unwrap().success());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the server ends", || child.try_wait().unwrap())
    }

    /// What was written, without what is different each time.
    pub(crate) fn steady(&self, text: &str) -> String {
        let text = text.replace(&self.data.display().to_string(), "DATA").replace(&self.port.to_string(), "PORT");
        let replace =
            |text: String, pattern: &str, by: &str| Regex::new(pattern).unwrap().replace_all(&text, by).into_owned();
        let text = replace(text, r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z", "TIME");
        let text = replace(text, r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID");
        let text = replace(text, r#"(resourceVersion"?: )"\d+""#, r#"$1"N""#);
        // Ages: in the last column, in parentheses, and in the columns of conditions and events.
        let text = replace(text, r"(?m)(  )\d+(s|m\d+s)$", "${1}AGE");
        let text = replace(text, r"\(\d+(s|m\d+s) ago\)", "(AGE ago)");
        replace(text, r"(?m)^(  [A-Z]\w+ +\w+ +\w+ +)\d+s +", "${1}AGE  ")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// kubectl, for which a kubeconfig is all that there is: what it caches about a server is beside that.
pub(crate) fn kubectl(kubeconfig: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the tests' settings come in through the environment")]
    let kubectl = std::env::var("BERTH_KUBECTL").expect("run the tests with `make test`");
    let mut command = Command::new(kubectl);
    command.env("HOME", kubeconfig.parent().unwrap()).env("KUBECONFIG", kubeconfig);
    command
}
