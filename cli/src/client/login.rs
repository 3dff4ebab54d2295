//! `berth login` and `berth logout`: a session, and a context for it that kubectl and every other client can use.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::config::Config;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::connect::{connect_by, found};
use super::kubeconfig::{self, Entry};
use super::{Session, password};
use crate::args::{Login, Logout};
use crate::failure::{Exit, exit_of, fail};
use crate::print;

pub(crate) async fn login(options: &Login) -> anyhow::Result<()> {
    let target = options.kubeconfig.clone().map_or_else(kubeconfig::written, Ok)?;
    let known = files(&target);
    let server = match &options.server {
        Some(server) => server.as_str().trim_end_matches('/').to_owned(),
        None => known
            .iter()
            .find_map(current_server)
            .ok_or_else(|| fail(Exit::Usage, "which server? No kubeconfig names one: give --server URL"))?,
    };
    let url = url::Url::parse(&server).with_context(|| format!("{server} is no address"))?;
    if url.scheme() != "https" {
        return Err(fail(Exit::Usage, format!("{server}: passwords are sent to https:// only")));
    }
    let authority = match &options.certificate_authority {
        Some(file) => {
            let pem = std::fs::read(file)
                .map_err(|error| fail(Exit::Usage, format!("cannot read {}: {error}", file.display())))?;
            Some(STANDARD.encode(pem))
        }
        None => known.iter().find_map(|config| kubeconfig::authority(config, &server)),
    };
    let mut config = Config::new(server.parse().with_context(|| format!("{server} is no address"))?);
    config.root_cert = authority.as_deref().map(certificates).transpose()?;
    let session = connect_by(config)?;
    let username = match &options.username {
        Some(name) => name.clone(),
        None => ask_name()?,
    };
    let password = password::read(options.password_file.as_deref(), &format!("Password of {username} at {server}: "))?;
    let body = json!({"username": username, "password": password});
    let answer = session.act("POST", apiserver::accounts::SESSIONS, Some(&body)).await?;
    let token = answer["token"].as_str().ok_or_else(|| fail(Exit::Failed, "the server answered without a session"))?;
    let place = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let name = format!("{username}@{place}");
    let mut config = kubeconfig::read(&target)?;
    let before = config["contexts"].as_array().into_iter().flatten().find(|context| context["name"] == name.as_str());
    let before = before.and_then(|context| context["context"]["namespace"].as_str()).map(str::to_owned);
    let namespace = options.namespace.clone().or(before).unwrap_or_else(|| "default".to_owned());
    let entry = Entry {
        name: &name,
        cluster: &place,
        server: &server,
        authority: authority.as_deref(),
        namespace: &namespace,
        token,
    };
    kubeconfig::put(&mut config, &entry);
    kubeconfig::write(&target, &config)?;
    let until = answer["expires"].as_str().unwrap_or("it is ended");
    print::line(&format!("{username} has signed in at {server} until {until}"));
    print::note(&format!("The context {name} in {} is the current one.", target.display()));
    // Where this machine has a server of its own, its kubeconfig comes before the one at home.
    if options.kubeconfig.is_none() && found().is_ok_and(|files| !files.contains(&target)) {
        print::note(&format!("To use it with berth: export KUBECONFIG={}", target.display()));
    }
    Ok(())
}

pub(crate) async fn logout(options: &Logout) -> anyhow::Result<()> {
    let connection = &options.connection;
    let files = match &connection.kubeconfig {
        Some(file) => vec![file.clone()],
        None => found()?,
    };
    let named = connection.context.clone();
    let (file, mut config, context) = files
        .into_iter()
        .find_map(|file| {
            let config = kubeconfig::read(&file).ok()?;
            let context = named.clone().or_else(|| config["current-context"].as_str().map(str::to_owned))?;
            kubeconfig::token(&config, &context).is_some().then_some((file, config, context))
        })
        .ok_or_else(|| fail(Exit::Usage, "the current context has no session"))?;
    if kubeconfig::token(&config, &context).is_none_or(|token| !token.starts_with(apiserver::accounts::SESSION_PREFIX))
    {
        return Err(fail(Exit::Usage, format!("the context {context} was not made by berth login")));
    }
    let session = Session::open(connection).await?;
    match session.act("DELETE", "/api/paas/v1/sessions/current", None).await {
        // It has ended already.
        Err(error) if exit_of(&error) != Exit::NotAllowed => return Err(error),
        _ => {}
    }
    kubeconfig::remove(&mut config, &context);
    kubeconfig::write(&file, &config)?;
    print::line(&format!("the session of {context} has ended"));
    Ok(())
}

/// The kubeconfigs that may know the server: the one that is written, and those that are used otherwise.
fn files(target: &Path) -> Vec<Value> {
    let others: Vec<PathBuf> = found().unwrap_or_default();
    let all = [target.to_owned()].into_iter().chain(others);
    all.filter_map(|file| kubeconfig::read(&file).ok()).collect()
}

fn current_server(config: &Value) -> Option<String> {
    let server = kubeconfig::server(config, config["current-context"].as_str()?)?;
    Some(server.trim_end_matches('/').to_owned())
}

fn certificates(encoded: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let pem = STANDARD.decode(encoded).context("the server's certificate in the kubeconfig")?;
    let all: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| fail(Exit::Usage, format!("the certificate authority is no PEM: {error}")))?;
    if all.is_empty() {
        Err(fail(Exit::Usage, "there is no certificate in the certificate authority"))
    } else {
        Ok(all)
    }
}

fn ask_name() -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(fail(Exit::Usage, "who are you? Give --username NAME"));
    }
    let mut out = anstream::stderr().lock();
    out.write_all(b"User name: ").and_then(|()| out.flush()).context("cannot ask for a name")?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("cannot read a name")?;
    Ok(line.trim().to_owned())
}
