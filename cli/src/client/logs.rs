//! `berth logs` and `berth builds`: what applications and builds write.

use anyhow::Context;
use futures::AsyncReadExt;
use serde_json::Value;

use super::resource::{self, application_name, segment};
use super::table::{self, Layout};
use super::{Session, resource::Resource};
use crate::args::{Builds, Logs, Output};
use crate::failure::{Exit, fail};
use crate::print;

pub(crate) async fn logs(options: &Logs) -> anyhow::Result<()> {
    let name = application_name(&options.application)?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (word, is_on) in
        [("follow", options.follow), ("timestamps", options.timestamps), ("previous", options.previous)]
    {
        if is_on {
            query.append_pair(word, "true");
        }
    }
    if let Some(lines) = options.tail {
        query.append_pair("tail", &lines.to_string());
    }
    if let Some(since) = &options.since {
        if since.parse::<u64>().is_err()
            && let Err(error) = since.parse::<crds::duration::Span>()
        {
            return Err(fail(Exit::Usage, format!("--since {since:?}: a number of seconds, or {error}")));
        }
        query.append_pair("since", since);
    }
    if let Some(instance) = &options.instance {
        query.append_pair("instance", instance);
    }
    let session = Session::open(&options.connection).await?;
    let (namespace, name) = (segment(&session.namespace), segment(name));
    pass_on(&session, &format!("/api/paas/applications/{namespace}/{name}/logs?{}", query.finish())).await
}

pub(crate) async fn builds(options: &Builds) -> anyhow::Result<()> {
    let application = application_name(&options.application)?;
    let session = Session::open(&options.connection).await?;
    let resource = resource::find_one(&session, "builds.berth.dev").await?;
    match &options.log {
        None => list(&session, &resource, application, options.output).await,
        Some(wanted) => {
            let name = match wanted.as_str() {
                "" => newest(&session, application).await?,
                name => of_application(&session, &resource, application, name).await?,
            };
            let follow = if options.follow { "?follow=true" } else { "" };
            let (namespace, name) = (segment(&session.namespace), segment(&name));
            pass_on(&session, &format!("/api/paas/builds/{namespace}/{name}/logs{follow}")).await
        }
    }
}

/// The path of the builds of an application.
fn path(session: &Session, resource: &Resource, application: &str) -> String {
    let selector = segment(&format!("spec.application={application}"));
    format!("{}?fieldSelector={selector}", resource.list_path(Some(&session.namespace)))
}

async fn list(session: &Session, resource: &Resource, application: &str, output: Option<Output>) -> anyhow::Result<()> {
    let path = path(session, resource, application);
    if let Some(output) = output.filter(|output| *output != Output::Wide) {
        let mut list = session.send("GET", &path, "application/json").await?;
        for item in list["items"].as_array_mut().into_iter().flatten() {
            *item = super::get::complete(item.take(), resource);
            if output == Output::Name {
                print::line(&super::get::title(item));
            }
        }
        return if output == Output::Name { Ok(()) } else { print::document(&list, output) };
    }
    let answer = session.send("GET", &path, table::ACCEPT).await?;
    if answer["rows"].as_array().is_none_or(Vec::is_empty) {
        exists(session, application).await?;
        print::note(&format!("Application {application} has no builds."));
        return Ok(());
    }
    print::text(&Layout::new(output.is_some(), false, String::new()).render(&answer));
    Ok(())
}

/// The name of the build that was asked for last, as the application itself says: of two that were made in the same second
/// their times do not tell which it was.
async fn newest(session: &Session, application: &str) -> anyhow::Result<String> {
    let found = exists(session, application).await?;
    let newest = found["status"]["latestBuild"].as_str();
    newest.map(str::to_owned).ok_or_else(|| fail(Exit::NotFound, format!("application {application} has no builds")))
}

/// The name of a build, if it is one of this application.
async fn of_application(
    session: &Session,
    resource: &Resource,
    application: &str,
    name: &str,
) -> anyhow::Result<String> {
    resource::check_name(name)?;
    let build = session.send("GET", &resource.path(&session.namespace, name), "application/json").await?;
    match build["spec"]["application"].as_str() {
        Some(of) if of == application => Ok(name.to_owned()),
        of => Err(fail(
            Exit::NotFound,
            format!("{name} is a build of {}, not of {application}", of.unwrap_or("something else")),
        )),
    }
}

/// Fails if there is no such application: to have no builds is not the same.
async fn exists(session: &Session, application: &str) -> anyhow::Result<Value> {
    let resource = resource::find_one(session, "applications.berth.dev").await?;
    session.send("GET", &resource.path(&session.namespace, application), "application/json").await
}

/// Writes a text to standard output as it comes, byte for byte: programs write what they want.
async fn pass_on(session: &Session, path: &str) -> anyhow::Result<()> {
    let mut stream = Box::pin(session.stream(path, "text/plain").await?);
    let mut buffer = vec![0; 16 << 10];
    loop {
        let bytes = stream.read(&mut buffer).await.context("the log broke off")?;
        if bytes == 0 {
            return Ok(());
        }
        print::bytes(&buffer[..bytes]);
    }
}
