//! Files and folders that are still there after a loss of power: neither half written nor under their old names.
//!
//! A rename is only on disk when the folder that has the name is. A key that was lost so would take with it whatever was
//! sealed with it in another place.

use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces a file, at once or not at all, by one that only its owner may read.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    put(&fresh, path)
}

/// Gives a file that is written another name, in place of whatever has it.
pub fn put(from: &Path, to: &Path) -> Result<()> {
    File::open(from)?.sync_all()?;
    std::fs::rename(from, to)?;
    sync_folder_of(to)
}

/// Makes a folder, and those above it, if they are not there.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/key");
        make_folder(path.parent().unwrap()).unwrap();
        for text in ["long and old", "new"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        assert!(put(&folder.path().join("none"), &path).is_err() && path.exists());
    }
}
