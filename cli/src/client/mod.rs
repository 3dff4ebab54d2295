//! The server as the client commands see it: any kind, by whatever name the person used.

mod age;
mod apply;
mod audit;
mod browse;
mod connect;
mod delete;
mod describe;
mod get;
mod init;
mod keys;
mod logs;
mod manifest;
mod node;
mod resource;
mod table;
mod wait;
mod watch;

pub(crate) use apply::{apply, apply_documents, create_missing};
pub(crate) use audit::audit;
pub(crate) use browse::{deploy, open, restart};
pub(crate) use connect::{Session, connect_with};
pub(crate) use delete::delete;
pub(crate) use describe::describe;
pub(crate) use get::get;
pub(crate) use init::init;
pub(crate) use keys::keys;
pub(crate) use logs::{builds, logs};
pub(crate) use manifest::parse as parse_manifest;
pub(crate) use node::{node, token as join_token};
pub(crate) use wait::{Progress, until_ready};
