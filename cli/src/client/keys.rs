//! `berth keys`: the master keys that the store is sealed with.

use std::path::Path;
use std::time::Duration;

use apiserver::store::MasterKey;
use serde_json::Value;

use super::Session;
use crate::args::{Keys, Rotate};
use crate::failure::{Exit, fail};
use crate::print;
use crate::server::keys;

const KEYS: &str = "/api/paas/v1/keys";
/// How often the server is asked how far it is.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) async fn keys(command: &Keys) -> anyhow::Result<()> {
    match command {
        Keys::New => {
            print::line(&MasterKey::generate()?.to_text());
            Ok(())
        }
        Keys::Status { connection } => {
            let status = Session::open(connection).await?.send("GET", KEYS, "application/json").await?;
            print::line(&serde_json::to_string_pretty(&status)?);
            Ok(())
        }
        Keys::Rotate(options) => rotate(options).await,
    }
}

async fn rotate(options: &Rotate) -> anyhow::Result<()> {
    let Rotate { connection, file, no_new_key } = options;
    let session = Session::open(connection).await?;
    if !no_new_key {
        let present = keys::of_file(file)?;
        let status = session.send("GET", KEYS, "application/json").await?;
        refuse_what_would_lock_out(&status, &present, file)?;
        // With more than one key an earlier rotation was cut off: it is finished first.
        if present.len() == 1 {
            let key = MasterKey::generate()?;
            print::note(&format!("{} gets the new master key {}, before the old one", file.display(), key.id()));
            keys::write(file, &[&[key], &*present].concat())?;
        }
    }
    let mut status = session.act("POST", &format!("{KEYS}/rotation"), None).await?;
    while status["rotation"]["phase"] == "Running" {
        tokio::time::sleep(LOOK).await;
        status = session.send("GET", KEYS, "application/json").await?;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if status["rotation"]["phase"] != "Done" {
        return Err(fail(Exit::Failed, format!("the rotation failed: {}", text(&status["rotation"]["message"]))));
    }
    let primary = text(&status["primary"]);
    if !no_new_key {
        let mut present = keys::of_file(file)?;
        present.retain(|key| status["needed"].as_array().is_some_and(|needed| needed.iter().any(|id| id == key.id())));
        if present.first().is_none_or(|key| key.id() != primary) {
            let message = format!("the server uses {primary}, which is not the first key in {}", file.display());
            return Err(fail(Exit::Failed, message));
        }
        keys::write(file, &present)?;
    }
    print::line(&format!("everything is sealed with {primary}; {} rows were changed", status["rotation"]["rows"]));
    Ok(())
}

/// A new key is sealed with at once. So it must get to the server that is asked, and no other server may be without it.
fn refuse_what_would_lock_out(status: &Value, present: &[MasterKey], file: &Path) -> anyhow::Result<()> {
    if status["shared"] == true {
        return Err(fail(
            Exit::Refused,
            "other servers may use this database, and could not read what is sealed with a key that they do not have: put the \
             new key (berth keys new) behind the old one on every server, then before it on every server, and then run \
             berth keys rotate --no-new-key",
        ));
    }
    if present.iter().all(|key| status["primary"] != key.id()) {
        let message = format!(
            "the server does not have its master keys from {}: say which --file it is, or put the new key before the old one \
             where they are and use --no-new-key",
            file.display()
        );
        return Err(fail(Exit::Refused, message));
    }
    Ok(())
}
