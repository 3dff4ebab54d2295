//! The command line: every command, option and environment variable there is.

mod accounts;
mod backup;
mod keys;
mod limits;
mod oidc;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use accounts::{CreateToken, ListTokens, Login, Logout, Password, Somebody, Token, User};
pub(crate) use backup::{Backup, Create, Restore, Verify};
pub(crate) use keys::{Keys, MasterKey, Rotate};
pub(crate) use limits::Limits;
pub(crate) use oidc::Oidc;

/// Berth runs applications: describe them in YAML, and it builds, places, runs and routes them.
#[derive(Debug, Parser)]
#[command(name = "berth", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed for another reason than these
  2  wrong usage
  3  not found
  4  refused as invalid, or in conflict with what is there
  5  not allowed
  6  the server cannot be reached
  7  timed out
  8  the application did not become ready";

/// A namespace's name, so that a wrong one is wrong usage and not an empty list.
fn namespace(text: &str) -> Result<String, String> {
    if crds::names::is_label(text) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 63 of a-z, 0-9 and -, and start and end with a letter or digit".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start Berth on this machine: server, agent, default plans and runtimes
    Up(Up),
    /// Stop what `up` started; the data stays
    Down(Down),
    /// Run the control plane: API, reconcilers, gateway for agents
    Server(Box<Server>),
    /// Run the agent of a worker node
    Agent(Agent),
    /// Print the CustomResourceDefinitions
    Crds,
    /// Write a berth.yaml for the application in a folder
    Init(Init),
    /// Create or change resources from YAML or JSON
    Apply(Apply),
    /// List resources, or show one
    Get(Get),
    /// Show one resource with its conditions and events
    Describe(Describe),
    /// Print what an application writes
    Logs(Logs),
    /// List the builds of an application, or print the log of one
    Builds(Builds),
    /// Print an application's address and open it in a browser
    Open(Open),
    /// Build and roll out an application again
    Deploy(Named),
    /// Restart an application's instances one after the other
    Restart(Named),
    /// Delete resources
    Delete(Delete),
    /// Sign in with a password, and write a context for it into the kubeconfig
    Login(Login),
    /// End the session of the context, and take it out of the kubeconfig
    Logout(Logout),
    /// Show who changed what, and what was refused; the newest first
    Audit(Audit),
    /// Join tokens and the nodes that used them
    #[command(subcommand)]
    Node(Node),
    /// People and programs that use a server
    #[command(subcommand)]
    User(User),
    /// Tokens for programs that act for you
    #[command(subcommand)]
    Token(Token),
    /// The master keys that Secrets are sealed with in the store
    #[command(subcommand)]
    Keys(Keys),
    /// Copies of a server's store and authority
    #[command(subcommand)]
    Backup(Backup),
    /// The server's database, while no server runs
    #[command(subcommand)]
    Store(Store),
    /// Git repositories for a machine without a forge
    #[command(subcommand)]
    Git(Git),
    /// Print a shell's completion script
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which server to speak to, and in which namespace: as in kubectl.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Connection {
    /// The kubeconfig file; otherwise $KUBECONFIG, that of `berth up` or ~/.kube/config, in this order
    #[arg(long, env = "BERTH_KUBECONFIG", value_name = "FILE", help_heading = "Connection")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context in it
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub(crate) context: Option<String>,
    /// The namespace (project); the context's otherwise
    #[arg(short, long, value_name = "NAME", value_parser = namespace, help_heading = "Connection")]
    pub(crate) namespace: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
    /// A table with more columns
    Wide,
    /// One `kind/name` a line
    Name,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Folder for everything that Berth keeps
    #[arg(long, env = "BERTH_DATA", value_name = "DIR", default_value = crate::up::DEFAULT_DATA)]
    pub(crate) data: PathBuf,
    /// Address of the API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6443")]
    pub(crate) listen: SocketAddr,
    /// Port on which applications are served over HTTP
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub(crate) http_port: u16,
    /// Port on which applications are served over HTTPS
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    pub(crate) https_port: u16,
    /// Domain under which each application gets a name of its own
    #[arg(long, value_name = "NAME", default_value = "apps.localhost")]
    pub(crate) platform_domain: String,
    /// Docker's socket
    #[arg(long, env = "DOCKER_HOST", value_name = "unix:PATH", default_value = "unix:///var/run/docker.sock")]
    pub(crate) docker_host: String,
    /// More certificates that builds trust, PEM; the system's own bundle otherwise
    #[arg(long, env = "SSL_CERT_FILE", value_name = "FILE")]
    pub(crate) extra_ca: Option<PathBuf>,
    /// Deploy the application in this folder from a Git repository made of it
    #[arg(long, value_name = "DIR")]
    pub(crate) example: Option<PathBuf>,
    /// Port on which that repository is served
    #[arg(long, value_name = "PORT", default_value_t = 8418)]
    pub(crate) git_port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Folder that was given to `up`
    #[arg(long, env = "BERTH_DATA", value_name = "DIR", default_value = crate::up::DEFAULT_DATA)]
    pub(crate) data: PathBuf,
    /// Leave the applications running: stop only the control plane
    #[arg(long)]
    pub(crate) keep_applications: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Folder for the store, the certificates and the kubeconfig
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Address of the API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6443")]
    pub(crate) listen: SocketAddr,
    /// The store: `sqlite:PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE` [default: a file in the data folder]
    #[arg(long, env = "BERTH_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// URL at which the other servers of the same PostgreSQL reach this one; that of --listen otherwise
    #[arg(long, value_name = "URL")]
    pub(crate) advertise: Option<url::Url>,
    /// Domain under which each application gets a name of its own
    #[arg(long, value_name = "NAME", default_value = "apps.localhost")]
    pub(crate) platform_domain: String,
    /// Port that is part of applications' addresses, if it is not 80
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub(crate) http_port: u16,
    /// More host names and addresses of this server, for its certificate
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// Private networks from which source may be fetched; none otherwise
    #[arg(long, value_name = "CIDR")]
    pub(crate) source_network: Vec<ipnet::IpNet>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `info,controller=debug`
    #[arg(long, env = "BERTH_LOG", value_name = "LEVEL", default_value = "info")]
    pub(crate) log: String,
    #[command(flatten)]
    pub(crate) oidc: Oidc,
    #[command(flatten)]
    pub(crate) master_key: MasterKey,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// Address of the server, for example https://berth.example.com:6443
    #[arg(long, value_name = "URL")]
    pub(crate) server: url::Url,
    /// File with the join token; read only until the node has joined
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// Folder for the node's identity, its last assignment, Nginx and builds
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Docker's socket
    #[arg(long, env = "DOCKER_HOST", value_name = "unix:PATH", default_value = "unix:///var/run/docker.sock")]
    pub(crate) docker_host: String,
    /// Port on which applications are served over HTTP
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub(crate) http_port: u16,
    /// Port on which applications are served over HTTPS
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    pub(crate) https_port: u16,
    /// The node's name; the host's otherwise
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// More certificates that builds trust, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) extra_ca: Option<PathBuf>,
    /// Private networks from which source may be fetched; none otherwise
    #[arg(long, value_name = "CIDR")]
    pub(crate) source_network: Vec<ipnet::IpNet>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `info,node_agent=debug`
    #[arg(long, env = "BERTH_LOG", value_name = "LEVEL", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The application's folder
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// The application's name; the folder's otherwise
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The plan
    #[arg(long, default_value = "small")]
    pub(crate) plan: String,
    /// Overwrite a berth.yaml that is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Files or folders of YAML or JSON; `-` is standard input
    #[arg(short, long, required = true, value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// Only check: the server says what it would do
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not wait until applications are ready
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Kinds, their short names or a category, for example `app`, `plans,runtimes` or `berth`; or `app/shop`
    pub(crate) kind: String,
    /// Names, or more of `KIND/NAME`
    pub(crate) names: Vec<String>,
    /// How it is written
    #[arg(short, long)]
    pub(crate) output: Option<Output>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Go on with what changes from now on
    #[arg(short, long)]
    pub(crate) watch: bool,
}

impl Get {
    /// All objects of a kind that belongs to no namespace.
    pub(crate) fn all(kind: &str, connection: &Connection, output: Option<Output>) -> Self {
        let (connection, kind) = (connection.clone(), kind.to_owned());
        Self { connection, kind, names: Vec::new(), output, all_namespaces: false, selector: None, watch: false }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The kind, or `KIND/NAME`
    pub(crate) kind: String,
    /// Names; all of the kind, if there is none
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The application
    pub(crate) application: String,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the last lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u32>,
    /// Only of the last so long, for example 90 (seconds), 10m or 1h30m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Each line with its time
    #[arg(long)]
    pub(crate) timestamps: bool,
    /// Of the containers before the present ones
    #[arg(long)]
    pub(crate) previous: bool,
    /// Of one instance only
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Builds {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The application
    pub(crate) application: String,
    /// Print the log of the newest build, or of this one
    #[arg(long, value_name = "BUILD", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) log: Option<String>,
    /// Go on until the build has ended
    #[arg(short, long, requires = "log")]
    pub(crate) follow: bool,
    /// How the list is written
    #[arg(short, long)]
    pub(crate) output: Option<Output>,
}

#[derive(Debug, Args)]
pub(crate) struct Open {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The application
    pub(crate) application: String,
    /// Only print the address
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The application
    pub(crate) application: String,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The kind, or `KIND/NAME`
    #[arg(required_unless_present = "filename")]
    pub(crate) kind: Option<String>,
    /// Names, or more of `KIND/NAME`
    pub(crate) names: Vec<String>,
    /// What stands in these files instead
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["kind", "names"])]
    pub(crate) filename: Vec<PathBuf>,
    /// It is no failure if there is nothing of this name
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
    /// Do not wait until it is gone
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Of all namespaces, and of what belongs to none
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only what this user did
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Only to this kind, for example `secrets` or `applications.berth.dev`
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) resource: Option<String>,
    /// Only this verb: create, update, patch, delete or deletecollection
    #[arg(long, value_name = "VERB")]
    pub(crate) verb: Option<String>,
    /// Only from then on: a number of seconds ago, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// How it is written: all that is known as json or yaml
    #[arg(short, long)]
    pub(crate) output: Option<Output>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Make a token with which a machine joins as a node
    Token {
        #[command(flatten)]
        connection: Connection,
        /// Region of the node
        #[arg(long, default_value = "default")]
        region: String,
        /// How long it is valid, from 1m to 30d, for example 1h
        #[arg(long, default_value = "1h")]
        ttl: String,
        /// How many nodes may join with it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        uses: u32,
    },
    /// List the nodes
    List {
        #[command(flatten)]
        connection: Connection,
        /// How it is written
        #[arg(short, long)]
        output: Option<Output>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Certificate {
    /// The user's name, as bindings name it
    pub(crate) name: String,
    /// A group that the user is in
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// How many days it is valid; there is no way to take it back before
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=397))]
    pub(crate) days: u32,
    /// Folder that was given to `berth server`
    #[arg(long, value_name = "DIR", default_value = crate::up::DEFAULT_SERVER_DATA)]
    pub(crate) data: PathBuf,
    /// Address at which the user reaches the server; otherwise that of the administrator's kubeconfig
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<url::Url>,
    /// The namespace (project) that the user works in
    #[arg(short, long, value_name = "NAME", default_value = "default", value_parser = namespace)]
    pub(crate) namespace: String,
    /// File to write, for its owner only; standard output otherwise
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Move everything from SQLite to PostgreSQL, or back
    Migrate(Migrate),
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// What is moved: `sqlite:PATH` or `postgres://USER@HOST/DATABASE` (the password from $PGPASSWORD or a file)
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// Where it is moved to; must be empty
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Git {
    /// Serve the bare repositories of a folder, read-only, over HTTP
    Serve {
        /// The folder
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// Address to listen on
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8418")]
        listen: SocketAddr,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
