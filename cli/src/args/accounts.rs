//! The commands of people with passwords: signing in and out, users, tokens.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Certificate, Connection, Output, namespace};

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Address of the server; otherwise that of the kubeconfig's context
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<url::Url>,
    /// The user's name; asked for otherwise
    #[arg(long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// File with the certificate by which the server is known, PEM; otherwise that of the kubeconfig, or the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate_authority: Option<PathBuf>,
    /// File with the password in its first line, `-` for standard input; asked for otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The kubeconfig file to write to; otherwise the first of $KUBECONFIG, or ~/.kube/config
    #[arg(long, env = "BERTH_KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The namespace (project) to work in
    #[arg(short, long, value_name = "NAME", value_parser = namespace)]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logout {
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Make a user who signs in with a password
    Create(Create),
    /// Set a password; all sessions and tokens of the user end
    Password(Password),
    /// Lock a user out: sessions and tokens end at once
    Disable(Somebody),
    /// Let a user in again
    Enable(Somebody),
    /// Delete a user
    Delete(Somebody),
    /// List the users
    List {
        #[command(flatten)]
        connection: Connection,
        /// How it is written
        #[arg(short, long)]
        output: Option<Output>,
    },
    /// Make a client certificate for a user, on the server's machine, and a kubeconfig with it
    Certificate(Certificate),
}

#[derive(Debug, Args)]
pub(crate) struct Somebody {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The user's name
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The user's name, as bindings name it
    pub(crate) name: String,
    /// A group that the user is in; can be repeated
    #[arg(long = "group", value_name = "NAME")]
    pub(crate) groups: Vec<String>,
    /// Where the user is reached
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// The name that people see
    #[arg(long, value_name = "TEXT")]
    pub(crate) display_name: Option<String>,
    /// File with the user's password in its first line, `-` for standard input; none is set otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Password {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The user's name; one's own otherwise
    pub(crate) name: Option<String>,
    /// File with the new password in its first line, `-` for standard input; asked for otherwise
    #[arg(long = "password-file", value_name = "FILE")]
    pub(crate) new_file: Option<PathBuf>,
    /// File with the present password, which is asked for when it is one's own
    #[arg(long = "current-password-file", value_name = "FILE")]
    pub(crate) current_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token for a program, which may do what you may, or a part of it
    Create(CreateToken),
    /// List tokens
    List(ListTokens),
    /// End a token
    Revoke {
        #[command(flatten)]
        connection: Connection,
        /// The token's id, which `berth token list` shows
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateToken {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: String,
    /// Only this verb, such as get; can be repeated
    #[arg(long = "verb", value_name = "VERB")]
    pub(crate) verbs: Vec<String>,
    /// Only this kind, such as applications.berth.dev or pods/log; can be repeated
    #[arg(long = "resource", value_name = "RESOURCE")]
    pub(crate) resources: Vec<String>,
    /// Only in this project; can be repeated
    #[arg(long = "project", value_name = "NAME", value_parser = namespace)]
    pub(crate) projects: Vec<String>,
    /// How long it is valid, such as 12h or 30d, at most 365d
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub(crate) expires: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListTokens {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Those of this user; one's own otherwise
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Those of all users
    #[arg(short = 'A', long, conflicts_with = "user")]
    pub(crate) all: bool,
    /// Also those that have ended
    #[arg(long)]
    pub(crate) ended: bool,
    /// How it is written
    #[arg(short, long)]
    pub(crate) output: Option<Output>,
}
