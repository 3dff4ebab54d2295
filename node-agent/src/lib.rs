//! The agent on a worker node: runs containers, builds images and routes requests as the gateway assigns them.

mod agent;
mod build_log;
mod clock;
mod connections;
mod desired;
mod docker;
mod execute;
mod files;
mod garbage;
mod history;
pub mod labels;
mod logs;
pub mod machine;
mod observed;
mod plan;
mod probe;
mod snapshot;
mod status;
mod world;
