//! A project's network, and the bridge by which the firewall knows it.

use std::collections::BTreeMap;

/// A network to make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Name of its bridge interface; begins with [`BRIDGE_PREFIX`], so that the firewall covers it.
    pub bridge: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Bridges of ours begin with this. The firewall drops what comes from `bth-+` to the host and the metadata address.
pub const BRIDGE_PREFIX: &str = "bth-";
/// What the name of a bridge begins with on which builds reach the outside. Other names go on with a hexadecimal digit,
/// so no project's bridge begins like this.
pub const OUTSIDE_BRIDGE_PREFIX: &str = "bth-o";

/// A network of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}
