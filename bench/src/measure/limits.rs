//! What the machine itself can do, measured in the same run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use e2e::free_port;
use tokio::time::Instant;

use crate::figures::Times;
use crate::http::{Connection, Tls};
use crate::process::Process;

/// How many synced writes are measured: under a second on a fast disk, ten on a slow one.
const SYNCED_WRITES: usize = 1_000;

/// Milliseconds (median) to write 1 KiB into a file that has its size already, and to have it on the disk.
pub(crate) fn synced_writes(folder: &Path) -> anyhow::Result<f64> {
    let file = File::create(folder.join("synced"))?;
    let block = [b'x'; 1024];
    // A file that grows would have its size written each time too, which no database does.
    file.write_all_at(&vec![0; SYNCED_WRITES * block.len()], 0)?;
    file.sync_all()?;
    let mut times = Times::default();
    for number in 0..SYNCED_WRITES {
        let asked = Instant::now();
        file.write_all_at(&block, u64::try_from(number * block.len())?)?;
        file.sync_data()?;
        times.add(asked.elapsed());
    }
    Ok(times.figures(Duration::from_secs(1))?.p50)
}

/// An Nginx that answers 1 KiB over TLS without doing anything for it.
pub(crate) struct Nginx {
    process: Process,
    tls: Tls,
}

impl Nginx {
    /// Starts it with the certificates of a Berth server, from the folder in which that server keeps them.
    pub(crate) async fn start(folder: &Path, pki: &Path) -> anyhow::Result<Self> {
        let address = ([127, 0, 0, 1], free_port()).into();
        let configuration = format!(
            "daemon off; master_process on; worker_processes auto; pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; keepalive_requests 1000000000;\n\
             server {{ listen {address} ssl; ssl_certificate {pki}/server.crt; ssl_certificate_key {pki}/server.key;\n\
             location / {{ return 200 \"{body}\"; }} }} }}\n",
            folder = folder.display(),
            pki = pki.display(),
            body = "x".repeat(1024),
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, configuration)?;
        let arguments = ["-c".as_ref(), file.as_os_str(), "-p".as_ref(), folder.as_os_str()];
        let process = Process::start(&program("nginx"), arguments, &folder.join("nginx.log"))?;
        let tls = Tls::new(address, &std::fs::read(pki.join("ca.crt"))?)?;
        let mut nginx = Self { process, tls };
        let deadline = Instant::now() + Duration::from_secs(10);
        while nginx.tls.connect(None).await.is_err() {
            nginx.process.check()?;
            anyhow::ensure!(Instant::now() < deadline, "Nginx does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(nginx)
    }

    pub(crate) async fn connections(&self, count: usize) -> anyhow::Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(self.tls.connect(None).await.context("cannot connect to Nginx")?);
        }
        Ok(connections)
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.process.stop().await
    }
}

/// A program of the system, which an administrator's search path need not name.
pub(crate) fn program(name: &str) -> std::path::PathBuf {
    let system = Path::new("/usr/sbin").join(name);
    if system.is_file() { system } else { name.into() }
}
