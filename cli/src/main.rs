//! The `berth` program: the only place where the parts are put together.

mod agent;
mod args;
mod client;
mod failure;
mod git_server;
mod print;
mod server;
mod signals;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

/// A request is a tree of small pieces, made on one thread and dropped on another: with the C library's allocator the server does
/// two thirds of what it does with this one (docs/decisions/0015-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use crate::args::{Cli, Command, Git, Store, User};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failures; everything else is wrong usage.
            let code = if error.use_stderr() { failure::Exit::Usage.into() } else { ExitCode::SUCCESS };
            if error.print().is_err() {
                return failure::Exit::Failed.into();
            }
            return code;
        }
    };
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        print::note("another crypto provider was installed first");
        return failure::Exit::Failed.into();
    }
    let runtime = match runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(error) => {
            print::note(&format!("berth: cannot start: {error}"));
            return failure::Exit::Failed.into();
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::note(&format!("berth: {}", failure::text_of(&error)));
            failure::exit_of(&error).into()
        }
    }
}

/// The server uses every processor; all else waits most of the time, and one thread keeps it small.
fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    match command {
        Command::Server(_) => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build(),
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(options) => up::up(&options).await,
        Command::Down(options) => up::down(&options).await,
        Command::Server(options) => server::run(*options).await,
        Command::Agent(options) => agent::run(options).await,
        Command::Crds => {
            print::text(&crds::yaml());
            Ok(())
        }
        Command::Init(options) => client::init(&options),
        Command::Apply(options) => client::apply(&options).await,
        Command::Get(options) => client::get(&options).await,
        Command::Describe(options) => client::describe(&options).await,
        Command::Logs(options) => client::logs(&options).await,
        Command::Builds(options) => client::builds(&options).await,
        Command::Open(options) => client::open(&options).await,
        Command::Deploy(options) => client::deploy(&options).await,
        Command::Restart(options) => client::restart(&options).await,
        Command::Delete(options) => client::delete(&options).await,
        Command::Audit(options) => client::audit(&options).await,
        Command::Node(command) => client::node(&command).await,
        Command::Login(options) => client::login(&options).await,
        Command::Logout(options) => client::logout(&options).await,
        Command::User(User::Certificate(options)) => server::user::certificate(&options),
        Command::User(command) => client::user(&command).await,
        Command::Token(command) => client::token(&command).await,
        Command::Backup(command) => server::backup(&command).await,
        Command::Keys(command) => client::keys(&command).await,
        Command::Store(Store::Migrate(options)) => server::migrate(&options).await,
        Command::Git(Git::Serve { root, listen }) => git_server::serve(&root, listen, signals::shutdown()?).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "berth", &mut script);
            print::text(&String::from_utf8(script)?);
            Ok(())
        }
    }
}
