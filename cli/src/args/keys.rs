//! Master keys: where a server has them from, and the commands about them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Connection;

/// Where the master key is. It is never an argument: those are shown to everybody on the machine.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Sealing")]
pub(crate) struct MasterKey {
    /// File with the master key that Secrets are sealed with in the store; the key itself may be in $BERTH_MASTER_KEY instead
    /// [default: master.key in the data folder, made at the first start]
    #[arg(long, env = "BERTH_MASTER_KEY_FILE", value_name = "FILE", conflicts_with = "master_key_command")]
    pub(crate) master_key_file: Option<PathBuf>,
    /// Program that prints the master key, without arguments, for example one that asks a key management service
    #[arg(long, env = "BERTH_MASTER_KEY_COMMAND", value_name = "FILE")]
    pub(crate) master_key_command: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Print a new master key
    New,
    /// Show which master keys the store needs, and how a rotation goes on
    Status {
        #[command(flatten)]
        connection: Connection,
    },
    /// Replace the master key while the server runs
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The server's file of keys: it gets a new key, and loses the old one when nothing needs it any more
    #[arg(long, value_name = "FILE", default_value = crate::up::DEFAULT_MASTER_KEY)]
    pub(crate) file: PathBuf,
    /// Make no key: wherever the server has its keys from, the new one is there already, before the old one
    #[arg(long)]
    pub(crate) no_new_key: bool,
}
