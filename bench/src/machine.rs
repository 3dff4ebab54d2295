//! What the figures were measured on.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// In whole GiB.
    pub(crate) memory: String,
    pub(crate) kernel: String,
    pub(crate) os: String,
}

impl Machine {
    /// This one, as Linux describes it.
    pub(crate) fn this() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str, separator: char| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_once(separator)).map(|(_, value)| value.trim().to_owned())
        };
        let kibibytes = after(&file("/proc/meminfo"), "MemTotal", ':')
            .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0);
        let unknown = || "unknown".to_owned();
        Self {
            cpu: after(&file("/proc/cpuinfo"), "model name", ':').unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: format!("{} GiB", (kibibytes + 512 * 1024) / (1024 * 1024)),
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            os: after(&file("/etc/os-release"), "PRETTY_NAME", '=')
                .map_or_else(unknown, |name| name.trim_matches('"').to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_has_a_name_for_everything() {
        let machine = super::Machine::this();
        assert!(machine.cores > 0 && machine.memory.ends_with(" GiB"), "{machine:?}");
        assert!(machine.kernel.contains('.') && !machine.os.contains('"'), "{machine:?}");
    }
}
