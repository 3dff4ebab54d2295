//! Writes the files that follow from the code. Tests compare them, so a forgotten run is noticed.

use std::path::Path;

use anyhow::Context;

pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    for entry in crds::KINDS {
        let path = root.join("crds").join(format!("{}.yaml", entry.noun));
        std::fs::write(&path, entry.yaml()).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote crds/{}.yaml", entry.noun);
    }
    Ok(())
}
