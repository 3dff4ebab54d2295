//! Join tokens for new nodes. They are Secrets in Berth's own namespace: who may make those may make tokens.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Web;
use super::caller::Caller;
use crate::gateway::error::Refused;
use crate::gateway::tokens::{self, Terms};

/// What a new token is to be good for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default = "region")]
    region: String,
    #[serde(default = "day")]
    ttl_seconds: i64,
    #[serde(default = "one")]
    uses: u32,
}

fn region() -> String {
    "default".to_owned()
}

fn day() -> i64 {
    24 * 3600
}

fn one() -> u32 {
    1
}

/// A new token: the only time that it is seen.
#[derive(Serialize)]
pub(super) struct Made {
    token: String,
    #[serde(flatten)]
    listed: Listed,
}

/// A token as it is listed.
#[derive(Serialize)]
pub(super) struct Listed {
    id: String,
    region: String,
    expires: String,
    uses: u32,
}

impl Listed {
    fn new(id: String, terms: Terms) -> Self {
        Self { id, region: terms.region, expires: terms.expires.to_string(), uses: terms.uses }
    }
}

pub(super) async fn create(
    State(web): State<Web>,
    caller: Caller,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Result<(StatusCode, Json<Made>), Refused> {
    let Json(wanted) = body.map_err(|rejection| Refused::bad_request(rejection.body_text()))?;
    let now = web.gateway.clock().now();
    let terms = tokens::terms(&wanted.region, wanted.ttl_seconds, wanted.uses, now)?;
    let token = tokens::create(&caller.0, &terms, web.gateway.ca_sha256()).await?;
    let made = Made { token: token.encode(), listed: Listed::new(token.id, terms) };
    Ok((StatusCode::CREATED, Json(made)))
}

/// The tokens that there are.
#[derive(Serialize)]
pub(super) struct List {
    items: Vec<Listed>,
}

pub(super) async fn list(caller: Caller) -> Result<Json<List>, Refused> {
    let tokens = tokens::list(&caller.0).await?;
    Ok(Json(List { items: tokens.into_iter().map(|(id, terms)| Listed::new(id, terms)).collect() }))
}

pub(super) async fn revoke(caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Refused> {
    tokens::revoke(&caller.0, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
