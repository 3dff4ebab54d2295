//! Create, replace and patch. All of them end in [`settle`], so that an object is judged the same whichever way it came.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use tokio::time::Instant;

use crate::admission::{self, Operation};
use crate::apply;
use crate::auth::Identity;
use crate::error::Error;
use crate::kind::{FieldError, FieldErrorReason, Kind, Scope};
use crate::objects::{self, Call};
use crate::ownership::{self, Owners};
use crate::path::{Subresource, Target};
use crate::query::{WriteOptions, resource_version};
use crate::respond::{self, encode};
use crate::server::State;
use crate::store::{self, Key, Object, Write};
use crate::{apply_patch, audit, decode, namespaces, patch as patches, quota, scale};

/// How long a write that names no revision is tried again when others write in between: half of what a request may take.
const TRIES_MAX: Duration = Duration::from_secs(30);
/// So many follow each other at once.
const TRIES_AT_ONCE: u32 = 3;
/// Between later ones: some transactions' time.
const TRY_PAUSE_MAX: Duration = Duration::from_millis(20);
/// How often a generated name that is taken is drawn again.
const NAMES_MAX: usize = 8;
/// Kubernetes' alphabet for generated names: no vowels, so that no words come out, and nothing that looks alike.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Headers of warnings together may not be longer: Kubernetes' bound, below what proxies take.
const WARNINGS_BYTES_MAX: usize = 4096;
/// If they would be, each is cut here.
const WARNING_CHARS_MAX: usize = 256;

/// What is written, by whom and how.
pub(crate) struct Context<'a> {
    pub(crate) state: &'a State,
    pub(crate) target: &'a Target,
    pub(crate) identity: &'a Identity,
    pub(crate) options: WriteOptions,
    /// What is written looks at who owns what: an apply, or a patch of `managedFields`. All others are spared the copy.
    pub(crate) reads_owners: bool,
}

/// The outcome of a write.
pub(crate) struct Written {
    pub(crate) status: StatusCode,
    /// As the target's kind shows it.
    pub(crate) body: Bytes,
    pub(crate) warnings: Vec<String>,
}

fn random_suffix() -> String {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes.iter().take(5).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

/// POST on a collection.
pub(crate) async fn create(state: &State, call: &Call, body: Bytes) -> Result<Response, Error> {
    let wish = call.wish()?;
    let kind = &call.target.kind;
    let options = ownership::named(WriteOptions::parse(&call.query, "CreateOptions")?, call);
    let decoded = decode::decode(&body, call.content_type(), kind.decode_protobuf)?;
    let mut object = decoded.value;
    admission::check_type(kind, &mut object)?;
    admission::check_address(kind, call.target.namespace(), None, &mut object)?;
    let context = Context { state, target: &call.target, identity: &call.identity, options, reads_owners: false };
    let written = create_object(&context, object, decoded.problems, &Owners::Writer).await?;
    send(state, call, wish, written).await
}

/// Stores a new object; draws its name again if a generated one is taken.
pub(crate) async fn create_object(
    context: &Context<'_>,
    object: Value,
    problems: Vec<String>,
    owners: &Owners,
) -> Result<Written, Error> {
    if !admission::text(&object, "name").is_empty() {
        return create_once(context, object, problems, owners).await;
    }
    let mut attempts = NAMES_MAX;
    loop {
        attempts -= 1;
        match create_once(context, object.clone(), problems.clone(), owners).await {
            Err(error) if error.reason() == "AlreadyExists" && attempts > 0 => {}
            result => return result,
        }
    }
}

async fn create_once(
    context: &Context<'_>,
    mut object: Value,
    problems: Vec<String>,
    owners: &Owners,
) -> Result<Written, Error> {
    let Context { state, target, identity, options, .. } = context;
    let kind = &target.kind;
    let sent = apply::take(&mut object);
    // Ordered by time, so that the index of uids grows at its end and a commit writes few of its pages.
    let uid = uuid::Uuid::now_v7().to_string();
    admission::begin(kind, &mut object, state.clock.now(), &uid, &random_suffix())?;
    if namespaces::is_namespace(kind) {
        namespaces::begin(&mut object)?;
    }
    let unknown = admission::shape(kind, &state.schemas[target.index], &mut object);
    let mut warnings = admission::meet_unknown(kind, &unknown, problems, options.field_validation, None)?;
    warnings.extend(admission::forget_repeated_owners(&mut object));
    let name = admission::text(&object, "name").to_owned();
    if kind.scope == Scope::Namespaced {
        namespaces::check_open(state, kind, &name, target.namespace())?;
    }
    judge(context, Operation::Create, None, &name, None, &mut object).await?;
    let managed_fields = owners.decide(context, None, &object, || apply::entries(None, sent));
    ownership::put(&mut object, managed_fields);
    let _room = quota::claim(state, target, &name, None, &object)?;
    let key = Key::new(state.kinds.store_id(target.index), target.namespace(), name.as_str());
    if options.dry_run {
        if state.store.get(&key).is_some() {
            return Err(Error::already_exists(kind, &name));
        }
        return Ok(Written { status: StatusCode::CREATED, body: encode(&object)?, warnings });
    }
    tracing::debug!(kind = kind.kind, %key, user = identity.user, "create");
    let noted =
        audit::Write { target, identity, verb: "create", code: 201, name: &name, old: None, new: Some(&object) };
    let line = audit::line(state, noted);
    let stored = state
        .store
        .write_audited(Write::Create { key, body: to_stored(kind, object) }, line)
        .await
        .map_err(|error| Error::from_store(error, kind, &name))?;
    Ok(Written { status: StatusCode::CREATED, body: respond::face(kind, &stored)?, warnings })
}

fn to_stored(kind: &Kind, object: Value) -> Value {
    match kind.view_of.as_ref().and_then(|view| view.to_stored) {
        None => object,
        Some(to_stored) => to_stored(object),
    }
}

/// Hooks and validation; the object is as it will be stored.
async fn judge(
    context: &Context<'_>,
    operation: Operation,
    subresource: Option<Subresource>,
    name: &str,
    old: Option<&Value>,
    new: &mut Value,
) -> Result<(), Error> {
    let Context { state, target, identity, options, .. } = context;
    let mut request = admission::Request {
        kind: &target.kind,
        operation,
        subresource,
        namespace: target.namespace(),
        name,
        old,
        new: None,
        identity,
        dry_run: options.dry_run,
    };
    for hook in &state.admission {
        hook.mutate(&request, new);
    }
    if let Some(old) = old {
        admission::count_generation(&target.kind, old, new);
        if admission::unchanged(old, new) {
            return Ok(());
        }
    }
    let new = &*new;
    request.new = Some(new);
    for hook in &state.admission {
        if let Some(why) = hook.forbid(request).await {
            return Err(Error::forbidden(&target.kind.group, &target.kind.plural, name, &why));
        }
    }
    let mut errors = admission::validate(&target.kind, &state.schemas[target.index], new, old);
    if errors.is_empty() {
        for hook in &state.admission {
            errors.extend(hook.validate(request).await);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::invalid(&target.kind, name, &errors)) }
}

/// PUT on an object.
pub(crate) async fn replace(state: &State, call: &Call, body: Bytes) -> Result<Response, Error> {
    let wish = call.wish()?;
    let target = &call.target;
    let options = ownership::named(WriteOptions::parse(&call.query, "UpdateOptions")?, call);
    let context = Context { state, target, identity: &call.identity, options, reads_owners: false };
    let wants_scale = target.subresource == Some(Subresource::Scale);
    let decoder = target.kind.decode_protobuf.filter(|_| !wants_scale);
    let decoded = decode::decode(&body, call.content_type(), decoder)?;
    let mut object = decoded.value;
    if wants_scale {
        let written = change(&context, true, |old| scale::put(&target.kind, old, &object)).await?;
        return scale::send(call, wish, written).await;
    }
    admission::check_type(&target.kind, &mut object)?;
    admission::check_address(&target.kind, target.namespace(), target.name.as_deref(), &mut object)?;
    let names_none = matches!(admission::text(&object, "resourceVersion"), "" | "0");
    let written = change(&context, true, |old| {
        // Who means another object of that name is told so first.
        let uid = admission::text(&object, "uid");
        let same = uid.is_empty() || uid == admission::text(old, "uid");
        if target.kind.replace_names_revision && names_none && same {
            let cause = FieldError {
                field: "metadata.resourceVersion".into(),
                reason: FieldErrorReason::Invalid,
                message: "Invalid value: 0: must be specified for an update".into(),
            };
            return Err(Error::invalid(&target.kind, target.name(), &[cause]));
        }
        Ok(Proposal { problems: decoded.problems.clone(), ..Proposal::of(object.clone()) })
    })
    .await?;
    send(state, call, wish, written).await
}

/// PATCH on an object.
pub(crate) async fn patch(state: &State, call: &Call, body: Bytes) -> Result<Response, Error> {
    let wish = call.wish()?;
    let target = &call.target;
    let kind = &target.kind;
    let options = WriteOptions::parse(&call.query, "PatchOptions")?;
    let media = crate::negotiation::content_type(&call.parts.headers);
    if media == apply_patch::MEDIA_TYPE {
        return apply_patch::patch(state, call, options, &body).await;
    }
    let options = ownership::named(options, call);
    let wants_scale = target.subresource == Some(Subresource::Scale);
    let apply: fn(&Kind, &Value, &[u8]) -> Result<Value, patches::PatchError> = match media.as_str() {
        "application/json-patch+json" => |_kind, old, patch| patches::json::apply(old, patch),
        "application/merge-patch+json" => |_kind, old, patch| patches::merge::apply(old, patch),
        "application/strategic-merge-patch+json" if kind.strategic_merge => {
            |kind, old, patch| patches::strategic::apply(old, patch, &kind.schema)
        }
        _ => {
            let mut accepted =
                vec!["application/json-patch+json", "application/merge-patch+json", apply_patch::MEDIA_TYPE];
            if kind.strategic_merge {
                accepted.push("application/strategic-merge-patch+json");
            }
            return Err(Error::unsupported_media_type(&accepted));
        }
    };
    if options.force.is_some() {
        let cause = FieldError {
            field: "force".into(),
            reason: FieldErrorReason::Forbidden,
            message: "Forbidden: may not be specified for non-apply patch".into(),
        };
        return Err(Error::invalid_kind("meta.k8s.io", "PatchOptions", "", &[cause]));
    }
    let reads_owners = ownership::may_name_owners(&body);
    let problems = if media == "application/json-patch+json" { Vec::new() } else { patches::problems(&body) };
    let context = Context { state, target, identity: &call.identity, options, reads_owners };
    if wants_scale {
        let written = change(&context, false, |old| {
            let wanted = apply(kind, &scale::of(kind, old)?, &body)?;
            scale::put(kind, old, &wanted)
        })
        .await?;
        return scale::send(call, wish, written).await;
    }
    let written = change(&context, false, |old| {
        let mut object = apply(kind, old, &body)?;
        admission::check_type(kind, &mut object)?;
        admission::check_address(kind, target.namespace(), target.name.as_deref(), &mut object)?;
        let patch = Some(String::from_utf8_lossy(&body).into_owned());
        Ok(Proposal { patch, problems: problems.clone(), ..Proposal::of(object) })
    })
    .await?;
    send(state, call, wish, written).await
}

/// A new state that somebody wants.
pub(crate) struct Proposal {
    pub(crate) object: Value,
    pub(crate) problems: Vec<String>,
    /// The patch it came from, for messages.
    pub(crate) patch: Option<String>,
    /// Who owns its fields.
    pub(crate) owners: Owners,
}

impl Proposal {
    /// A state that the writer has made, about which there is nothing to say.
    pub(crate) fn of(object: Value) -> Self {
        Self { object, problems: Vec::new(), patch: None, owners: Owners::Writer }
    }
}

/// Reads, lets `propose` make a new state, and writes it; again if somebody else wrote in between and the caller
/// named no revision.
pub(crate) async fn change(
    context: &Context<'_>,
    replaces: bool,
    propose: impl Fn(&Value) -> Result<Proposal, Error>,
) -> Result<Written, Error> {
    let kind = &context.target.kind;
    let mut tries = Tries::new();
    loop {
        let current = objects::find(context.state, context.target)?;
        let mut old = respond::tree(kind, &current.body)?;
        let hidden = if context.reads_owners { None } else { apply::take(&mut old) };
        let mut proposal = propose(&old)?;
        let named =
            resource_version(Some(admission::text(&proposal.object, "resourceVersion")).filter(|v| !v.is_empty()))?;
        // A patch starts from the current state and carries its revision along: only another one was named.
        let pinned = named.filter(|named| replaces || *named != current.revision);
        if pinned.is_some_and(|pinned| pinned != current.revision) {
            return Err(Error::conflict(kind, context.target.name()));
        }
        let sent = apply::take(&mut proposal.object);
        let stored = hidden.or_else(|| apply::take(&mut old));
        match settle(context, &current, &old, proposal, Owned { stored, sent }).await {
            Err(Failure::Raced) if pinned.is_none() && tries.again().await => {}
            Err(Failure::Raced) => return Err(Error::conflict(kind, context.target.name())),
            Err(Failure::Refused(error)) => return Err(error),
            Ok(written) => return Ok(written),
        }
    }
}

/// Tries of a write that names no revision, against others who write the same object: in one transaction only one of them
/// wins.
pub(crate) struct Tries {
    made: u32,
    end: Instant,
}

impl Tries {
    pub(crate) fn new() -> Self {
        Self { made: 0, end: Instant::now() + TRIES_MAX }
    }

    /// Whether to try once more. After the first few it takes turns with the others by chance.
    pub(crate) async fn again(&mut self) -> bool {
        self.made += 1;
        if self.made > TRIES_AT_ONCE {
            let [byte, ..] = *uuid::Uuid::new_v4().as_bytes();
            tokio::time::sleep(TRY_PAUSE_MAX * u32::from(byte) / 256).await;
        }
        Instant::now() < self.end
    }
}

/// `managedFields` as they are stored and as the caller has sent them.
struct Owned {
    stored: Option<Value>,
    sent: Option<Value>,
}

/// Why a write did not happen.
enum Failure {
    /// Somebody else wrote first.
    Raced,
    /// It may not.
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

async fn settle(
    context: &Context<'_>,
    current: &Arc<Object>,
    old: &Value,
    proposal: Proposal,
    Owned { stored, sent }: Owned,
) -> Result<Written, Failure> {
    let Context { state, target, identity, options, .. } = context;
    let (kind, name) = (&target.kind, target.name());
    let mut new = proposal.object;
    let uid = admission::text(&new, "uid");
    if !uid.is_empty() && *uid != *current.uid {
        let because = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", current.uid);
        return Err(Error::conflict_because(kind, name, &because).into());
    }
    admission::keep(kind, old, &mut new, target.subresource)?;
    if namespaces::is_namespace(kind) && target.subresource != Some(Subresource::Finalize) {
        namespaces::keep(old, &mut new, target.subresource);
    }
    let unknown = admission::shape(kind, &state.schemas[target.index], &mut new);
    let patch = proposal.patch.as_deref().map(|patch| (name, if kind.sensitive { "…" } else { patch }));
    let mut warnings = admission::meet_unknown(kind, &unknown, proposal.problems, options.field_validation, patch)?;
    warnings.extend(admission::forget_repeated_owners(&mut new));
    judge(context, Operation::Update, target.subresource, name, Some(old), &mut new).await?;
    let unchanged = admission::unchanged(old, &new);
    // A part of an object says nothing about who owns the whole.
    let sent = sent.filter(|sent| target.subresource.is_none() && stored.as_ref() != Some(sent));
    let same =
        || Ok(Written { status: StatusCode::OK, body: respond::face(kind, current)?, warnings: warnings.clone() });
    if unchanged && sent.is_none() && matches!(proposal.owners, Owners::Writer) {
        return same();
    }
    let before = if unchanged { stored.clone() } else { None };
    let managed_fields = proposal.owners.decide(context, Some(old), &new, || apply::entries(stored, sent));
    if unchanged && !apply::differ(before.as_ref(), managed_fields.as_ref()) {
        return same();
    }
    ownership::put(&mut new, managed_fields);
    let gone = admission::is_being_deleted(&new)
        && admission::finalizers(&new).is_empty()
        && !(namespaces::is_namespace(kind) && namespaces::has_finalizers(&new));
    let _room = if gone { None } else { quota::claim(state, target, name, Some(old), &new)? };
    if options.dry_run {
        return Ok(Written { status: StatusCode::OK, body: encode(&new)?, warnings });
    }
    let key = Key::new(state.kinds.store_id(target.index), target.namespace(), name);
    tracing::debug!(kind = kind.kind, %key, user = identity.user, gone, "update");
    let patched = proposal.patch.is_some() || matches!(proposal.owners, Owners::Decided(_));
    let verb = if patched { "patch" } else { "update" };
    let noted = audit::Write { target, identity, verb, code: 200, name, old: Some(old), new: Some(&new) };
    let line = audit::line(state, noted);
    let body = to_stored(kind, new);
    let write = if gone {
        Write::Remove { key, expected_revision: current.revision, body: Some(body) }
    } else {
        Write::Replace { key, expected_revision: current.revision, body }
    };
    match state.store.write_audited(write, line).await {
        Ok(stored) => Ok(Written { status: StatusCode::OK, body: respond::face(kind, &stored)?, warnings }),
        Err(store::Error::Conflict { .. }) => Err(Failure::Raced),
        Err(error) => Err(Error::from_store(error, kind, name).into()),
    }
}

pub(crate) async fn send(state: &State, call: &Call, wish: respond::Wish, written: Written) -> Result<Response, Error> {
    let mut response = wish.send_object(written.status, &call.target.kind, written.body, state.clock.now()).await?;
    warn(&mut response, &written.warnings);
    Ok(response)
}

/// One `Warning` header each, as `kubectl` prints them.
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    let whole: usize = warnings.iter().map(String::len).sum();
    let each = if whole > WARNINGS_BYTES_MAX { WARNING_CHARS_MAX } else { WARNINGS_BYTES_MAX };
    let mut length = 0;
    for warning in warnings {
        let text: String = warning.chars().take(each).filter(|c| !c.is_control()).collect();
        length += text.len();
        if length > WARNINGS_BYTES_MAX {
            return;
        }
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        // As bytes: a field may be called whatever it likes.
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
