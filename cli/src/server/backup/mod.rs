//! `berth backup`: the store and the certificate authority in one file, and a new server made of it.
//!
//! What is in a backup is sealed as it is in the database; the master key is not in it. Before one is called good, the whole
//! store has been opened from it.

mod archive;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use apiserver::clock::Clock;
use apiserver::file;
use apiserver::store::{
    Backend, Direction, KeyRing, Postgres, Settings, Sqlite, Store, begin_anew, check_sqlite, copy_sqlite, export,
    transfer,
};
use controller::series::Series;

use self::archive::{AUTHORITY, Manifest, SERIES, STORE};
use super::database::Database;
use super::keys::Source;
use super::kinds;
use crate::args::{Backup, Create, Restore, Verify};
use crate::failure::{Exit, fail};
use crate::print;
use crate::up::write_private;

/// The folder of the authority in a server's data, and what of it cannot be made anew.
const PKI: &str = "pki";
const PKI_FILES: [&str; 2] = ["ca.crt", "ca.key"];

pub(crate) async fn backup(command: &Backup) -> anyhow::Result<()> {
    match command {
        Backup::Create(options) => create(options).await,
        Backup::Verify(options) => verify(options).await,
        Backup::Restore(options) => restore(options).await,
    }
}

async fn create(options: &Create) -> anyhow::Result<()> {
    let Create { to, data, database_url, master_key } = options;
    if to.exists() {
        return Err(fail(Exit::Usage, format!("there is a file {} already", to.display())));
    }
    let work = beside(to)?;
    let folder = work.path();
    let (store, series) = (folder.join(STORE), folder.join(SERIES));
    match Database::parse(database_url.as_deref(), data)? {
        Database::Sqlite { file, folder: of_series } => {
            if !file.exists() {
                return Err(fail(Exit::NotFound, format!("there is no store {}", file.display())));
            }
            copy_sqlite(&file, &store).await.context("cannot copy the store")?;
            copy_sqlite(&of_series.join(SERIES), &series).await.context("cannot copy the series")?;
        }
        Database::Postgres(url) => {
            let mut made = Sqlite::open(&store).await.context("cannot make a file for the store")?;
            made.close().await.context("cannot make a file for the store")?;
            Series::open(folder).await.context("cannot make a file for the series")?.close().await;
            export(&url, &[store.as_path(), series.as_path()]).await.context("cannot copy the database")?;
        }
    }
    let opened = Opened::open(folder, &Source::choose(master_key, data)).await?;
    let mut authority = BTreeMap::new();
    for name in PKI_FILES {
        let path = data.join(PKI).join(name);
        authority
            .insert(name, std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let sealed = opened.keys.seal_file(AUTHORITY, &serde_json::to_vec(&authority)?)?;
    write_private(&folder.join(AUTHORITY), sealed.as_bytes())?;
    let now = Clock::system().now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let manifest = Manifest::of(folder, now, opened.revision, opened.objects, opened.needed)?;
    let packed = folder.join("archive");
    archive::pack(folder, &manifest, &packed)?;
    file::put(&packed, to).with_context(|| format!("cannot make {}", to.display()))?;
    say(to, &manifest);
    Ok(())
}

async fn verify(options: &Verify) -> anyhow::Result<()> {
    let Verify { file, data, master_key } = options;
    let work = beside(file)?;
    let manifest = unpacked(file, work.path(), &Source::choose(master_key, data)).await?.0;
    say(file, &manifest);
    Ok(())
}

async fn restore(options: &Restore) -> anyhow::Result<()> {
    let Restore { file, data, database_url, master_key } = options;
    let database = Database::parse(database_url.as_deref(), data)?;
    if let Database::Sqlite { file, folder } = &database {
        let series = folder.join(SERIES);
        let left = [file, &series].into_iter().flat_map(|file| left_of(file));
        let left: Vec<String> = left.map(|path| path.display().to_string()).collect();
        if !left.is_empty() {
            let message = format!("a store, or something of one, is there already: {}", left.join(", "));
            return Err(fail(Exit::Refused, message));
        }
    }
    super::private_folder(data).with_context(|| format!("cannot make {}", data.display()))?;
    let work = tempfile::tempdir_in(data).context("cannot make a folder to work in")?;
    let folder = work.path();
    let (manifest, keys) = unpacked(file, folder, &Source::choose(master_key, data)).await?;
    begin_anew(&folder.join(STORE)).await.context("cannot prepare the store")?;
    put_authority(&keys.open_file(AUTHORITY, &std::fs::read_to_string(folder.join(AUTHORITY))?)?, data)?;
    match database {
        // The store last: with it a server is there.
        Database::Sqlite { file, folder: of_series } => {
            put(&folder.join(SERIES), &of_series.join(SERIES))?;
            put(&folder.join(STORE), &file)?;
        }
        Database::Postgres(url) => {
            let mut opened = Postgres::connect(&url).await.context("the PostgreSQL database cannot be used")?;
            opened.close().await.context("the PostgreSQL database cannot be used")?;
            Series::connect(&url).await.context("the PostgreSQL database cannot be used")?.close().await;
            let (store, series) = (folder.join(STORE), folder.join(SERIES));
            let files = [store.as_path(), series.as_path()];
            transfer(&files, &url, Direction::ToPostgres).await.context("nothing was restored")?;
        }
    }
    say(file, &manifest);
    print::note(
        "Start the server as before. Who has signed in since the backup has to do so again; what was revoked since is not.",
    );
    Ok(())
}

/// What there is of a SQLite file. Without the file itself the others are as bad: SQLite would take them for the last changes
/// of the one that is put there.
fn left_of(file: &Path) -> Vec<PathBuf> {
    let parts = ["", "-wal", "-shm", "-journal"].into_iter().map(|end| {
        let mut path = file.as_os_str().to_owned();
        path.push(end);
        PathBuf::from(path)
    });
    parts.filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// A folder beside a file, for copies as large as it; it goes with the value.
fn beside(file: &Path) -> anyhow::Result<tempfile::TempDir> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempdir_in(parent).with_context(|| format!("cannot make a folder in {}", parent.display()))
}

/// Takes a backup apart and makes sure that a server can be made of it.
async fn unpacked(file: &Path, folder: &Path, source: &Source) -> anyhow::Result<(Manifest, Arc<KeyRing>)> {
    let bad = || format!("{} cannot be restored", file.display());
    let manifest = archive::unpack(file, folder).with_context(bad)?;
    for name in [STORE, SERIES] {
        check_sqlite(&folder.join(name)).await.with_context(bad)?;
    }
    let opened = Opened::open(folder, source).await.with_context(bad)?;
    anyhow::ensure!(opened.revision == manifest.revision, "{}: its store is at another revision", bad());
    let authority = std::fs::read_to_string(folder.join(AUTHORITY))?;
    opened.keys.open_file(AUTHORITY, &authority).with_context(bad)?;
    Ok((manifest, opened.keys))
}

/// What was found when a copy was opened as a server would, and closed again.
struct Opened {
    keys: Arc<KeyRing>,
    needed: Vec<String>,
    revision: u64,
    objects: usize,
}

impl Opened {
    async fn open(folder: &Path, source: &Source) -> anyhow::Result<Self> {
        let kinds = kinds::registered()?;
        let mut backend = Sqlite::open(folder.join(STORE)).await.context("its store cannot be opened")?;
        let needed = backend.master_keys().await.context("its store cannot be read")?;
        let needed: Vec<String> = needed.into_iter().map(|key| key.id).collect();
        let keys = Arc::new(KeyRing::new(source.keys(&needed).await?)?);
        // One that was never sealed is, in the copy.
        let settings = Settings { keys: Some(Arc::clone(&keys)), ..Settings::default() };
        let store = Store::open(backend, kinds.tables(), settings).await.context("its store cannot be opened")?;
        store.set_upkeep(false);
        let needed = store.master_keys().await?.into_iter().map(|key| key.id).collect();
        let all =
            (0..store.tables().len()).map(|kind| store.snapshot_across_namespaces(apiserver::store::KindId(kind)));
        let objects = all.map(|snapshot| snapshot.iter().count()).sum();
        let revision = store.revision();
        store.close().await.context("its store cannot be closed")?;
        Series::open(folder).await.context("its series cannot be opened")?.close().await;
        Ok(Self { keys, needed, revision, objects })
    }
}

/// Writes the authority into the new server's folder, where there must be no other.
fn put_authority(content: &[u8], data: &Path) -> anyhow::Result<()> {
    let files: BTreeMap<String, String> = serde_json::from_slice(content).context("its authority cannot be read")?;
    let folder = data.join(PKI);
    file::make_folder(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in PKI_FILES {
        let content = files.get(name).with_context(|| format!("its authority has no {name}"))?;
        let path = folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(present) if present == *content => {}
            Ok(_another) => {
                return Err(fail(Exit::Refused, format!("{} is of another platform", path.display())));
            }
            Err(_none) => write_private(&path, content.as_bytes())?,
        }
    }
    Ok(())
}

/// Puts a file where it belongs, whole or not at all.
fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    let put = || match file::put(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            let near = to.with_extension("restored");
            std::fs::copy(from, &near)?;
            file::put(&near, to)
        }
        done => done,
    };
    put().with_context(|| format!("cannot make {}", to.display()))
}

fn say(file: &Path, manifest: &Manifest) {
    let Manifest { version, created, revision, objects, keys, .. } = manifest;
    print::line(&format!(
        "{}: {objects} objects at revision {revision}, made {created} by berth {version}, sealed with {}",
        file.display(),
        keys.join(", ")
    ));
}
