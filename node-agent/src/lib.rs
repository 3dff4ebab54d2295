//! The agent on a worker node: runs containers, builds images and routes requests as the gateway assigns them.

pub mod machine;
