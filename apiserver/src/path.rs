//! What a path under `/api` or `/apis` addresses. Pure.

use std::sync::Arc;

use crate::kind::{Kind, Scope};
use crate::kinds::Kinds;

/// A part of an object with an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// `…/status`
    Status,
    /// `…/scale`
    Scale,
    /// `…/finalize`, which namespaces have.
    Finalize,
    /// `…/token`, which service accounts have.
    Token,
    /// `…/log` of a running program.
    Log,
    /// `…/exec`: another program beside it.
    Exec,
    /// `…/attach`: what it says from now on.
    Attach,
    /// `…/portforward`: connections to its ports.
    PortForward,
}

impl Subresource {
    /// As it stands in URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Finalize => "finalize",
            Self::Token => "token",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }

    /// Whether it is a way into a running program.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Log | Self::Exec | Self::Attach | Self::PortForward)
    }
}

/// A collection of objects of one kind, or one object, or a part of it.
#[derive(Clone)]
pub struct Target {
    /// The kind's number in [`Kinds`].
    pub index: usize,
    /// The kind.
    pub kind: Arc<Kind>,
    /// The namespace in the path; `None` for cluster-scoped kinds and for collections across namespaces.
    pub namespace: Option<String>,
    /// The object's name; `None` for the collection.
    pub name: Option<String>,
    /// The part of the object.
    pub subresource: Option<Subresource>,
    /// The old `/watch/` prefix was used.
    pub watch: bool,
}

impl Target {
    /// The namespace as the store keys it: empty for cluster-scoped kinds.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("")
    }

    /// The name, or nothing for a collection.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    /// Whether this is a collection over all namespaces of a namespaced kind.
    pub fn across_namespaces(&self) -> bool {
        self.kind.scope == Scope::Namespaced && self.namespace.is_none()
    }
}

/// What stands behind a path.
#[derive(Clone)]
pub enum Endpoint {
    /// `/api/v1` or `/apis/<group>/<version>`: the list of its resources.
    Version {
        /// Empty for the core group.
        group: String,
        /// For example `v1`.
        version: String,
    },
    /// `/apis/<group>`
    Group(String),
    /// Objects.
    Resource(Target),
    /// A path with the shape of a resource and no kind behind it: 404 for whoever is known.
    Unknown,
}

/// Whether a path has the shape of a resource's, whatever stands behind it. Others are authorised by the path itself.
pub(crate) fn is_resource(path: &str) -> bool {
    let mut segments = path.split('/').filter(|s| !s.is_empty());
    match segments.next() {
        Some("api") => segments.next() == Some("v1") && segments.next().is_some(),
        Some("apis") => segments.nth(2).is_some(),
        _ => false,
    }
}

/// Reads a path that starts with `/api/` or `/apis/`; trailing slashes do not count.
pub fn resolve(kinds: &Kinds, path: &str) -> Endpoint {
    let Some(segments) = segments(path) else { return Endpoint::Unknown };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["api", version] => Endpoint::Version { group: String::new(), version: (*version).into() },
        ["apis", group] => Endpoint::Group((*group).into()),
        ["apis", group, version] => Endpoint::Version { group: (*group).into(), version: (*version).into() },
        ["api", version, rest @ ..] => resource(kinds, "", version, rest),
        ["apis", group, version, rest @ ..] => resource(kinds, group, version, rest),
        _ => Endpoint::Unknown,
    }
}

/// The decoded segments; `None` if one is not UTF-8 or smuggles a separator.
fn segments(path: &str) -> Option<Vec<String>> {
    path.split('/').filter(|s| !s.is_empty()).map(percent_decode).collect()
}

fn percent_decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|s| !s.contains('/') && s != "." && s != "..")
}

fn resource(kinds: &Kinds, group: &str, version: &str, rest: &[&str]) -> Endpoint {
    let (watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    // `namespaces/x` is the object; `namespaces/x/status` a part of it; `namespaces/x/secrets` the objects in it.
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, tail @ ..]
            if !(group.is_empty() && tail.is_empty() && matches!(*plural, "status" | "finalize")) =>
        {
            (Some((*namespace).to_owned()), [&[*plural], tail].concat())
        }
        rest => (None, rest.to_vec()),
    };
    let (plural, name, part) = match rest.as_slice() {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some((*name).to_owned()), None),
        [plural, name, part] => (*plural, Some((*name).to_owned()), Some(*part)),
        _ => return Endpoint::Unknown,
    };
    let Some((index, kind)) = kinds.find(group, version, plural) else { return Endpoint::Unknown };
    let kind = Arc::clone(kind);
    if (kind.scope == Scope::Cluster && namespace.is_some())
        || (kind.scope == Scope::Namespaced && namespace.is_none() && name.is_some())
    {
        return Endpoint::Unknown;
    }
    let is_namespaces = group.is_empty() && plural == "namespaces";
    let subresource = match part {
        None => None,
        Some("status") if kind.status || is_namespaces => Some(Subresource::Status),
        Some("scale") if kind.scale.is_some() => Some(Subresource::Scale),
        Some("finalize") if is_namespaces => Some(Subresource::Finalize),
        Some("token") if group.is_empty() && plural == "serviceaccounts" => Some(Subresource::Token),
        Some("log") if kind.streams => Some(Subresource::Log),
        Some("exec") if kind.streams => Some(Subresource::Exec),
        Some("attach") if kind.streams => Some(Subresource::Attach),
        Some("portforward") if kind.streams => Some(Subresource::PortForward),
        Some(_) => return Endpoint::Unknown,
    };
    Endpoint::Resource(Target { index, kind, namespace, name, subresource, watch })
}
