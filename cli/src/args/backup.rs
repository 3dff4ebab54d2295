//! Copies of a server's store and authority.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::MasterKey;

#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Copy the store and the authority into a file, whether the server runs or not
    Create(Create),
    /// Make sure that a backup can be restored: that it is whole, and that the master key opens it
    Verify(Verify),
    /// Make a new server's data of a backup
    Restore(Restore),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// File to write; there must be none
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// The server's folder
    #[arg(long, value_name = "DIR", default_value = crate::up::DEFAULT_SERVER_DATA)]
    pub(crate) data: PathBuf,
    /// The server's store, if it is not in the folder
    #[arg(long, env = "BERTH_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    #[command(flatten)]
    pub(crate) master_key: MasterKey,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The backup
    pub(crate) file: PathBuf,
    /// Folder with the master key, if it is nowhere else
    #[arg(long, value_name = "DIR", default_value = crate::up::DEFAULT_SERVER_DATA)]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) master_key: MasterKey,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    pub(crate) file: PathBuf,
    /// The new server's folder; it may hold the master key and no store
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The new server's store, if it is not to be in the folder; must be empty
    #[arg(long, env = "BERTH_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    #[command(flatten)]
    pub(crate) master_key: MasterKey,
}
