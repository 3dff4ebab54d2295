//! Measures Berth beside its peers, on this machine, in one run, and writes what came out to a file.
//!
//! `bench/README.md` says what each row is and how to read it.

mod docker;
mod etcd;
mod figures;
mod http;
mod load;
mod machine;
mod measure;
mod process;
mod row;
mod server;
mod swarm;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use crate::docker::Docker;
use crate::load::Period;
use crate::machine::Machine;
use crate::measure::{MEASUREMENTS, Setting};

/// Measures Berth beside its peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// The rows to measure, by their number; all of them otherwise
    rows: Vec<u32>,
    /// The file for the results; rows that are not measured stay as they are in it
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// etcd, the API server's peer
    #[arg(long, value_name = "FILE", default_value = "etcd")]
    etcd: PathBuf,
    /// How often each measurement is repeated
    #[arg(long, value_name = "TIMES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    repetitions: u32,
    /// How long a load runs, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Docker's socket, for the rows that deploy
    #[arg(long, env = "BERTH_DOCKER_HOST", value_name = "unix:PATH", default_value = "unix:///var/run/docker.sock")]
    docker_host: String,
    /// Say which rows there are
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match begin(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            table::line(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn begin(arguments: Arguments) -> anyhow::Result<()> {
    if arguments.list {
        for measurement in MEASUREMENTS {
            table::line(&format!("{:>3}  {}", measurement.number, measurement.what));
        }
        return Ok(());
    }
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_taken| anyhow::anyhow!("another crypto provider was installed first"))?;
    // One thread for all clients: what they take is not there for what is measured.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let berth = std::env::current_exe()?.parent().context("this program has no folder")?.join("berth");
    anyhow::ensure!(berth.is_file(), "{} is not there: run `make bench`", berth.display());
    let chosen = |number: u32| arguments.rows.is_empty() || arguments.rows.contains(&number);
    for number in &arguments.rows {
        anyhow::ensure!(
            MEASUREMENTS.iter().any(|known| known.number == *number),
            "there is no row {number}: see --list"
        );
    }
    // Beside the programs, since /tmp may be in memory, where nothing is durable.
    let folder =
        tempfile::Builder::new().prefix("bench-").tempdir_in(berth.parent().context("berth has no folder")?)?;
    let setting = Setting {
        etcd_version: etcd::version(&arguments.etcd).await?,
        berth,
        etcd: arguments.etcd,
        docker: Docker::at(&arguments.docker_host)?,
        folder: folder.path().to_owned(),
        repetitions: arguments.repetitions,
        period: Period { warm_up: Duration::from_secs(1), measured: Duration::from_secs(arguments.seconds) },
    };
    let file = arguments.results.unwrap_or_else(|| e2e::root().join("bench").join("results").join("latest.json"));
    let machine = Machine::this();
    table::line(&format!(
        "{} ({} cores), {}, {}, kernel {}",
        machine.cpu, machine.cores, machine.memory, machine.os, machine.kernel
    ));
    let mut failed = Vec::new();
    let mut all = Vec::new();
    for measurement in MEASUREMENTS.iter().filter(|measurement| chosen(measurement.number)) {
        table::line(&format!("\n{}. {}", measurement.number, measurement.what));
        match measurement.run(&setting).await {
            Ok(figures) => {
                let date = now();
                let rows: Vec<_> = figures.into_iter().map(|figure| figure.row(&machine, date)).collect();
                table::rows(&rows);
                // After each measurement, so that one that fails later does not take the others with it.
                row::write(&file, &row::merge(row::read(&file)?, rows.clone()))?;
                all.extend(rows);
            }
            Err(error) => {
                table::line(&format!("   failed: {error:#}"));
                failed.push(measurement.number);
            }
        }
    }
    let met = all.iter().filter(|row| row.limit.met).count();
    table::line(&format!("\n{met} of {} goals met; written to {}", all.len(), file.display()));
    anyhow::ensure!(failed.is_empty(), "rows that could not be measured: {failed:?}");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the date of a measurement is the machine's own")]
fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    // Fractions of a second say nothing about a run of minutes.
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}
