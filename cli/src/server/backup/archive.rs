//! The file that a backup is: a tar archive whose first entry says what the others are.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use aws_lc_rs::digest::{Context as Digest, SHA256};
use serde::{Deserialize, Serialize};

/// What a backup holds besides its manifest, in this order.
pub(super) const FILES: [&str; 3] = [STORE, SERIES, AUTHORITY];
/// The store, sealed as it is in the database.
pub(super) const STORE: &str = "store.sqlite";
/// The logs of builds.
pub(super) const SERIES: &str = "series.sqlite";
/// The certificate authority, sealed.
pub(super) const AUTHORITY: &str = "authority.sealed";
const MANIFEST: &str = "manifest.json";
/// The version of all this.
const FORMAT: u32 = 1;
/// A manifest has some hundred bytes.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What a backup is of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    format: u32,
    /// The program's version that made it.
    pub(super) version: String,
    /// When it was made.
    pub(super) created: String,
    /// The store's revision.
    pub(super) revision: u64,
    /// How many objects it has.
    pub(super) objects: usize,
    /// The ids of the master keys that it needs.
    pub(super) keys: Vec<String>,
    files: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    size: u64,
    sha256: String,
}

impl Manifest {
    /// Of the files in a folder.
    pub(super) fn of(
        folder: &Path,
        created: String,
        revision: u64,
        objects: usize,
        keys: Vec<String>,
    ) -> anyhow::Result<Self> {
        let entry = |name: &str| {
            let mut digest = Digest::new(&SHA256);
            let size = copy(&mut File::open(folder.join(name))?, |bytes| {
                digest.update(bytes);
                Ok(())
            })?;
            anyhow::Ok(Entry { name: name.to_owned(), size, sha256: hex::encode(digest.finish()) })
        };
        let files = FILES.iter().map(|name| entry(name)).collect::<Result<_, _>>()?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Self { format: FORMAT, version, created, revision, objects, keys, files })
    }
}

/// Writes the files of a folder into an archive that nobody else can read.
pub(super) fn pack(folder: &Path, manifest: &Manifest, to: &Path) -> anyhow::Result<()> {
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(to);
    let file = file.with_context(|| format!("cannot make {}", to.display()))?;
    let mut archive = tar::Builder::new(file);
    let text = serde_json::to_vec_pretty(manifest)?;
    let header = |size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header
    };
    archive.append_data(&mut header(text.len() as u64), MANIFEST, &*text)?;
    for entry in &manifest.files {
        archive.append_data(&mut header(entry.size), &entry.name, File::open(folder.join(&entry.name))?)?;
    }
    archive.into_inner()?.sync_all().with_context(|| format!("cannot write {}", to.display()))
}

/// Takes an archive apart into an empty folder. What it does not name, or names otherwise than it is, is refused.
pub(super) fn unpack(archive: &Path, folder: &Path) -> anyhow::Result<Manifest> {
    let file = File::open(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let mut archive = tar::Archive::new(file);
    let mut entries = archive.entries().context("it is no tar archive")?;
    let mut first = entries.next().context("it is empty")?.context("it is no tar archive")?;
    anyhow::ensure!(first.path()?.as_os_str() == MANIFEST, "it is no backup: it does not begin with {MANIFEST}");
    anyhow::ensure!(first.size() <= MANIFEST_BYTES_MAX, "its manifest is too large");
    let mut text = Vec::new();
    first.read_to_end(&mut text).context("its manifest is cut off")?;
    let manifest: Manifest = serde_json::from_slice(&text).context("its manifest cannot be read")?;
    anyhow::ensure!(manifest.format == FORMAT, "it has the format {}; this program reads {FORMAT}", manifest.format);
    anyhow::ensure!(manifest.files.iter().map(|entry| &*entry.name).eq(FILES), "its manifest names other files");
    for wanted in &manifest.files {
        let name = &wanted.name;
        let mut entry = entries.next().with_context(|| format!("{name} is missing"))?.context("it is cut off")?;
        let plain = entry.header().entry_type().is_file() && entry.path()?.as_os_str() == name.as_str();
        anyhow::ensure!(plain && entry.size() == wanted.size, "{name} is not what the manifest says");
        let target = OpenOptions::new().create_new(true).write(true).mode(0o600).open(folder.join(name));
        let mut target = target.with_context(|| format!("cannot write {name}"))?;
        let mut digest = Digest::new(&SHA256);
        let size = copy(&mut entry, |bytes| {
            digest.update(bytes);
            target.write_all(bytes)
        })
        .with_context(|| format!("{name} cannot be read"))?;
        anyhow::ensure!(
            size == wanted.size && hex::encode(digest.finish()) == wanted.sha256,
            "{name} was changed or is damaged"
        );
        target.sync_all()?;
    }
    anyhow::ensure!(entries.next().is_none(), "it has more files than its manifest says");
    Ok(manifest)
}

/// Reads to the end, piece by piece.
fn copy(from: &mut impl Read, mut to: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<u64> {
    let mut piece = vec![0; 1 << 16];
    let mut all = 0;
    loop {
        let count = from.read(&mut piece)?;
        let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(all) };
        to(bytes)?;
        all += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(folder: &Path) -> std::path::PathBuf {
        for name in FILES {
            std::fs::write(folder.join(name), format!("the content of {name}")).unwrap();
        }
        let manifest = Manifest::of(folder, "today".to_owned(), 7, 3, vec!["00aa".to_owned()]).unwrap();
        let archive = folder.join("backup");
        pack(folder, &manifest, &archive).unwrap();
        archive
    }

    #[test]
    fn what_was_packed_is_unpacked_and_what_was_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let archive = packed(folder.path());
        let out = tempfile::tempdir().unwrap();
        let manifest = unpack(&archive, out.path()).unwrap();
        assert_eq!((manifest.revision, manifest.objects), (7, 3));
        assert_eq!(std::fs::read_to_string(out.path().join(STORE)).unwrap(), "the content of store.sqlite");
        assert!(pack(folder.path(), &manifest, &archive).is_err(), "it is there already");

        let whole = std::fs::read(&archive).unwrap();
        // Every byte that means something; most of the archive is padding.
        for at in (0..whole.len()).step_by(97).chain([0, 512, 1_600]) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&archive, &changed).unwrap();
            let out = tempfile::tempdir().unwrap();
            if unpack(&archive, out.path()).is_ok() {
                for name in FILES {
                    let content = std::fs::read_to_string(out.path().join(name)).unwrap();
                    assert_eq!(content, format!("the content of {name}"), "byte {at}");
                }
            }
        }
        for length in (0..whole.len() - 1_024).step_by(211) {
            std::fs::write(&archive, &whole[..length]).unwrap();
            assert!(unpack(&archive, tempfile::tempdir().unwrap().path()).is_err(), "cut off at {length}");
        }
    }

    #[test]
    fn an_archive_cannot_write_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let archive = packed(folder.path());
        let mut bytes = std::fs::read(&archive).unwrap();
        // The same length, another place.
        let name = STORE.as_bytes();
        let places: Vec<usize> = (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
        for at in places {
            bytes[at..at + name.len()].copy_from_slice(b"../../escape");
        }
        std::fs::write(&archive, &bytes).unwrap();
        let out = tempfile::tempdir().unwrap();
        assert!(unpack(&archive, out.path()).is_err());
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    }
}
