//! Short verbs on one application: `open`, `deploy`, `restart`.

use std::io::IsTerminal;
use std::process::{Command, Stdio};

use super::resource::{application_name, segment};
use super::wait::until_replaced;
use super::{Progress, Session, resource};
use crate::args::{Named, Open};
use crate::failure::{Exit, fail};
use crate::print;

/// A build may take 15 minutes, and what it made has to start.
const TIMEOUT_SECONDS: u64 = 20 * 60;

pub(crate) async fn open(options: &Open) -> anyhow::Result<()> {
    let session = Session::open(&options.connection).await?;
    let name = application_name(&options.application)?;
    let resource = resource::find_one(&session, "applications.berth.dev").await?;
    let application = session.send("GET", &resource.path(&session.namespace, name), "application/json").await?;
    let Some(url) = application["status"]["url"].as_str() else {
        return Err(fail(Exit::NotReady, format!("application {name} has no address yet")));
    };
    print::line(url);
    if !options.print && std::io::stdout().is_terminal() {
        // Where there is no desktop there is no browser, and the address was printed.
        let browser = Command::new("xdg-open").arg(url).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if browser.is_err() {
            print::note("No browser was found on this machine.");
        }
    }
    Ok(())
}

pub(crate) async fn deploy(options: &Named) -> anyhow::Result<()> {
    act(options, "deploy").await
}

pub(crate) async fn restart(options: &Named) -> anyhow::Result<()> {
    act(options, "restart").await
}

/// Asks for an action, then waits until it has had its effect.
async fn act(options: &Named, verb: &str) -> anyhow::Result<()> {
    let session = Session::open(&options.connection).await?;
    let name = application_name(&options.application)?;
    let resource = resource::find_one(&session, "applications.berth.dev").await?;
    let before = session.send("GET", &resource.path(&session.namespace, name), "application/json").await?;
    if super::wait::is_stopped(&before) {
        return Err(fail(Exit::Refused, format!("application {name} is stopped: set spec.running and spec.instances")));
    }
    let path = format!("/api/paas/applications/{}/{}/{verb}", segment(&session.namespace), segment(name));
    session.send("POST", &path, "application/json").await?;
    let url = until_replaced(&session, &before, TIMEOUT_SECONDS, &Progress::new()).await?;
    print::line(&format!("{} is served at {url}", resource.title(name)));
    Ok(())
}
