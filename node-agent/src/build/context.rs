//! From the archive that git makes to what the builder is given: read twice, for what it holds and to pass it on.
//!
//! A repository is a stranger's. Only files, folders and links that stay inside are taken, under names that stay inside;
//! owners, special bits and devices are not.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use tar::{Archive, Builder, EntryType, Header};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::failure::Failure;
use super::ignore::Ignore;
use super::source::Source;
use crate::machine::{ByteStream, Error};

/// Where the source lies in a context. What is ours lies beside it, out of the sight of whoever copies from the source.
pub(super) const SOURCE: &str = "source/";
/// How large a source may be, unpacked.
pub(super) const SOURCE_BYTES_MAX: u64 = 1 << 30;
/// How many files it may have; the largest repositories people deploy have a tenth of it.
const ENTRIES_MAX: usize = 200_000;
/// The longest path.
const PATH_BYTES_MAX: usize = 1024;
/// How many of the things that are left out are named in the log.
const NOTES_MAX: usize = 20;

/// What was found in an archive.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// The files.
    pub(super) source: Source,
    /// What was left out, and why.
    pub(super) notes: Vec<String>,
}

/// What of the source goes into a context, and what goes beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// What is left out.
    pub(super) ignore: Ignore,
    /// Files of our own.
    pub(super) files: Vec<(String, Vec<u8>)>,
    /// Archives of what earlier stages made, and where they go: a folder with a slash.
    pub(super) carried: Vec<(String, PathBuf)>,
}

/// What an entry is to us.
enum Kind {
    File { executable: bool },
    Folder,
    Link(PathBuf),
}

/// Finds out what an archive holds.
pub(super) fn scan(archive: &Path) -> Result<Scanned, Failure> {
    let mut scanned = Scanned::default();
    let mut left_out = 0_usize;
    let mut notes = Vec::new();
    let read = each(archive, |path, kind, size, _, content| {
        match kind {
            Ok(Kind::File { .. }) => {
                let text = if Source::is_read(path, size) {
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes)?;
                    Some(bytes)
                } else {
                    None
                };
                scanned.source.insert(path, text);
            }
            Ok(Kind::Folder | Kind::Link(_)) => {}
            Err(why) => {
                left_out += 1;
                if left_out <= NOTES_MAX {
                    notes.push(format!("{path:?} is left out: {why}"));
                }
            }
        }
        Ok(())
    });
    read.map_err(|problem| match problem.kind() {
        io::ErrorKind::FileTooLarge => Failure::new("CloneFailed", problem.to_string())
            .hint("keep large files elsewhere, or set spec.source.git.path"),
        _ => Failure::new("CloneFailed", format!("the source cannot be read: {problem}")),
    })?;
    if left_out > NOTES_MAX {
        notes.push(format!("… and {} more", left_out - NOTES_MAX));
    }
    scanned.notes = notes;
    Ok(scanned)
}

/// Passes an archive on as a build context. Reads and writes on a thread of its own; dropping the stream ends it.
pub(super) fn pack(archive: PathBuf, layout: Layout) -> ByteStream {
    // Four pieces of 64 KiB: enough that neither side waits for the other all the time.
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let writer = BufWriter::with_capacity(64 << 10, Pipe(sender.clone()));
        if let Err(problem) = write(&archive, &layout, writer) {
            // Nobody is there to hear it if the stream was dropped, which is then the problem itself.
            _ = sender.blocking_send(Err(Error::Refused(format!("the source cannot be packed: {problem}"))));
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

fn write(archive: &Path, layout: &Layout, writer: impl Write) -> io::Result<()> {
    let mut builder = Builder::new(writer);
    let header = |kind: EntryType, mode: u32, size: u64, modified: u64| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        header.set_mtime(modified);
        header
    };
    builder.append_data(&mut header(EntryType::Directory, 0o755, 0, 0), SOURCE, io::empty())?;
    each(archive, |path, kind, size, modified, content| {
        if layout.ignore.leaves_out(path) {
            return Ok(());
        }
        let name = format!("{SOURCE}{path}");
        match kind {
            Ok(Kind::File { executable }) => {
                let mode = if executable { 0o755 } else { 0o644 };
                builder.append_data(&mut header(EntryType::Regular, mode, size, modified), name, content)
            }
            Ok(Kind::Folder) => {
                builder.append_data(&mut header(EntryType::Directory, 0o755, 0, modified), name, io::empty())
            }
            Ok(Kind::Link(target)) => {
                builder.append_link(&mut header(EntryType::Symlink, 0o777, 0, modified), name, target)
            }
            Err(_) => Ok(()),
        }
    })?;
    for (name, content) in &layout.files {
        let mut header = header(EntryType::Regular, 0o644, content.len() as u64, 0);
        builder.append_data(&mut header, name, content.as_slice())?;
    }
    for (folder, archive) in &layout.carried {
        carry(&mut builder, folder, archive)?;
    }
    builder.into_inner()?.flush()
}

/// Passes on what an earlier stage made. It was made inside, and goes inside: links may lead where they like there.
fn carry(builder: &mut Builder<impl Write>, folder: &str, archive: &Path) -> io::Result<()> {
    let mut archive = Archive::new(BufReader::with_capacity(64 << 10, File::open(archive)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let plain =
            |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain(&path) {
            continue;
        }
        let name = Path::new(folder).join(&path);
        let mut header = Header::new_gnu();
        header.set_entry_type(entry.header().entry_type());
        // Neither owner nor the bits that lend one's rights are carried.
        header.set_mode(entry.header().mode()? & 0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(entry.header().mtime()?);
        header.set_size(entry.size());
        match (entry.header().entry_type(), entry.link_name()?.map(std::borrow::Cow::into_owned)) {
            (EntryType::Regular | EntryType::Continuous | EntryType::Directory, _) => {
                builder.append_data(&mut header, name, &mut entry)?;
            }
            (EntryType::Symlink, Some(target)) => builder.append_link(&mut header, name, target)?,
            (EntryType::Link, Some(target)) if plain(&target) => {
                builder.append_link(&mut header, name, Path::new(folder).join(target))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// What each entry is given to: its path, what it is or why it is not taken, its size, when it was modified, its content.
type Visit<'a> = dyn FnMut(&str, Result<Kind, String>, u64, u64, &mut dyn Read) -> io::Result<()> + 'a;

fn each(
    archive: &Path,
    mut visit: impl FnMut(&str, Result<Kind, String>, u64, u64, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    each_entry(archive, &mut visit)
}

fn each_entry(archive: &Path, visit: &mut Visit<'_>) -> io::Result<()> {
    let too_large = |what: String| io::Error::new(io::ErrorKind::FileTooLarge, what);
    let mut archive = Archive::new(BufReader::with_capacity(64 << 10, File::open(archive)?));
    let (mut bytes, mut count) = (0_u64, 0_usize);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        let (size, modified) = (entry.size(), entry.header().mtime().unwrap_or(0));
        bytes += size;
        count += 1;
        if bytes > SOURCE_BYTES_MAX {
            return Err(too_large(format!("the source has more than {} MiB", SOURCE_BYTES_MAX >> 20)));
        }
        if count > ENTRIES_MAX {
            return Err(too_large(format!("the source has more than {ENTRIES_MAX} files")));
        }
        let raw = entry.path_bytes().into_owned();
        let path = String::from_utf8_lossy(&raw).trim_end_matches('/').to_owned();
        let kind = kind(&entry, &raw, &path);
        visit(&path, kind, size, modified, &mut entry)?;
    }
    Ok(())
}

fn kind<R: Read>(entry: &tar::Entry<'_, R>, raw: &[u8], path: &str) -> Result<Kind, String> {
    if path.as_bytes() != raw.strip_suffix(b"/").unwrap_or(raw) {
        return Err("its name is not UTF-8".to_owned());
    }
    if path.len() > PATH_BYTES_MAX {
        return Err("its name is too long".to_owned());
    }
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.chars().any(char::is_control) || path.contains('\\') || !path.split('/').all(plain) {
        return Err("its name would lead elsewhere".to_owned());
    }
    if path.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
        return Err("it looks like a part of git's own".to_owned());
    }
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let executable = entry.header().mode().unwrap_or(0) & 0o100 != 0;
            Ok(Kind::File { executable })
        }
        EntryType::Directory => Ok(Kind::Folder),
        EntryType::Symlink => {
            let target = entry.link_name().ok().flatten().ok_or("it leads nowhere")?.into_owned();
            if stays_inside(Path::new(path), &target) {
                Ok(Kind::Link(target))
            } else {
                Err("it leads out of the source".to_owned())
            }
        }
        other => Err(format!("it is neither file nor folder ({other:?})")),
    }
}

/// Whether a link that lies at `path` leads to something below the source's root.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return false,
            },
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// Writes into a channel.
struct Pipe(mpsc::Sender<Result<Bytes, Error>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;

    /// An archive with entries that no tool would write: names go into the header as they are.
    fn archive(entries: &[(&str, EntryType, &str)]) -> tempfile::NamedTempFile {
        let mut builder = Builder::new(tempfile::NamedTempFile::new().unwrap());
        for (name, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4777);
            header.set_uid(1000);
            header.set_gid(1000);
            let link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if link {
                header.set_link_name_literal(content).unwrap();
            }
            let content = if link { "" } else { *content };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    async fn packed(archive: &Path, layout: Layout) -> Vec<(String, EntryType, u32, String)> {
        let bytes: Vec<Bytes> = pack(archive.to_owned(), layout).try_collect().await.unwrap();
        let bytes = bytes.concat();
        let mut archive = Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let (kind, mode) = (entry.header().entry_type(), entry.header().mode().unwrap());
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
            let mut text = entry.link_name().unwrap().map(|to| to.display().to_string()).unwrap_or_default();
            entry.read_to_string(&mut text).unwrap();
            (name, kind, mode, text)
        });
        entries.collect()
    }

    #[tokio::test]
    async fn what_would_lead_out_is_left_out_and_said() {
        let file = archive(&[
            ("app/", EntryType::Directory, ""),
            ("app/run", EntryType::Regular, "x"),
            ("in", EntryType::Symlink, "app/run"),
            ("app/up", EntryType::Symlink, "../in"),
            ("out", EntryType::Symlink, "../../etc/passwd"),
            ("root", EntryType::Symlink, "/etc/shadow"),
            ("app/sly", EntryType::Symlink, "x/../../../etc"),
            ("../escape", EntryType::Regular, "x"),
            ("/abs", EntryType::Regular, "x"),
            ("a//b", EntryType::Regular, "x"),
            ("back\\slash", EntryType::Regular, "x"),
            (".git/config", EntryType::Regular, "[core] fsmonitor = id"),
            ("sub/.GIT/hooks/x", EntryType::Regular, "x"),
            ("hard", EntryType::Link, "app/run"),
            ("device", EntryType::Block, ""),
            ("fifo", EntryType::Fifo, ""),
            ("line\nbreak", EntryType::Regular, "x"),
        ]);
        let scanned = scan(file.path()).unwrap();
        assert_eq!(scanned.source.paths().collect::<Vec<_>>(), ["app/run"]);
        assert_eq!(scanned.notes.len(), 13, "{:#?}", scanned.notes);
        let entries = packed(file.path(), Layout::default()).await;
        let short: Vec<_> =
            entries.iter().map(|(name, kind, mode, text)| format!("{name} {kind:?} {mode:o} {text}")).collect();
        assert_eq!(
            short,
            [
                "source/ Directory 755 ",
                "source/app Directory 755 ",
                "source/app/run Regular 755 x",
                "source/in Symlink 777 app/run",
                "source/app/up Symlink 777 ../in",
            ]
        );
    }

    #[tokio::test]
    async fn our_files_lie_beside_theirs_and_ignored_ones_stay_away() {
        let file = archive(&[
            ("Dockerfile", EntryType::Regular, "FROM evil"),
            ("a.js", EntryType::Regular, "a"),
            ("node_modules/b.js", EntryType::Regular, "b"),
        ]);
        let layout = Layout {
            ignore: Ignore::parse("node_modules"),
            files: vec![("Dockerfile".to_owned(), b"FROM good".to_vec())],
            carried: Vec::new(),
        };
        let entries = packed(file.path(), layout).await;
        let short: Vec<_> = entries.into_iter().map(|(name, _, _, text)| (name, text)).collect();
        let expected =
            [("source/", ""), ("source/Dockerfile", "FROM evil"), ("source/a.js", "a"), ("Dockerfile", "FROM good")];
        assert_eq!(short, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }

    #[test]
    fn a_source_without_end_is_refused() {
        let mut builder = Builder::new(tempfile::NamedTempFile::new().unwrap());
        let mut header = Header::new_gnu();
        header.set_path("big").unwrap();
        header.set_size(SOURCE_BYTES_MAX + 1);
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
        let file = builder.into_inner().unwrap();
        let failure = scan(file.path()).unwrap_err();
        assert_eq!((failure.reason, failure.message.as_str()), ("CloneFailed", "the source has more than 1024 MiB"));
    }
}
