//! Acting as somebody else: `Impersonate-User`, `-Group`, `-Uid` and `-Extra-*`, each checked by the verb `impersonate`,
//! as Kubernetes' impersonation filter does.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::identity::{ANONYMOUS, AUTHENTICATED, Identity, Impersonator, Origin, UNAUTHENTICATED};
use super::{Attributes, Authorizer, allows};
use crate::error::Error;

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const EXTRA: &str = "impersonate-extra-";

/// Values that one request may carry: each is an authorisation. People are in some dozens of groups.
const VALUES_MAX: usize = 256;

/// Whether a request asks to be treated as somebody else's.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    // No client has a header of this kind for anything else, and most have none: one look at each name.
    headers.keys().any(|name| name.as_str().starts_with("impersonate-"))
}

/// Whom a request that asks for it is to be treated as, if `identity` may act as them.
pub(super) async fn as_wanted(
    authorizer: &dyn Authorizer,
    identity: &Identity,
    headers: &HeaderMap,
) -> Result<Identity, Error> {
    let wanted = read(headers)?;
    for attributes in needed(&wanted) {
        if !allows(authorizer, identity, &attributes).await {
            let refusal = attributes.refusal(identity);
            return Err(Error::forbidden(&attributes.group, &attributes.resource, &attributes.name, &refusal));
        }
    }
    let Identity { user, groups, uid, scope, credential, origin, .. } = identity.clone();
    let origin = origin.map(|origin| Origin::clone(&origin)).unwrap_or_default();
    let origin = Origin { impersonator: Some(Impersonator { user, groups, uid }), ..origin };
    // A scoped token is as narrow in another's name as in its own, and ends what was begun with it.
    Ok(Identity { scope, credential, origin: Some(Arc::new(origin)), ..complete(wanted) })
}

fn read(headers: &HeaderMap) -> Result<Identity, Error> {
    let values = |name: &HeaderName| -> Result<Vec<String>, Error> {
        let texts = headers.get_all(name).iter().map(|value| value.to_str().map(str::to_owned));
        let readable: Result<Vec<String>, _> = texts.collect();
        readable.map_err(|error| Error::bad_request(format!("{name}: {error}")))
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        extra.insert(percent_decoded(key), values(name)?);
    }
    let (user, groups, uid) = (values(&USER)?, values(&GROUP)?, values(&UID)?);
    if groups.len() + extra.values().map(Vec::len).sum::<usize>() > VALUES_MAX {
        return Err(Error::bad_request(format!("more than {VALUES_MAX} groups and extra values are impersonated")));
    }
    let user = user.into_iter().next().unwrap_or_default();
    if user.is_empty() {
        return Err(Error::bad_request("groups, uid or extra are impersonated without a user: set Impersonate-User"));
    }
    Ok(Identity { user, groups, uid: uid.into_iter().next().unwrap_or_default(), extra, ..Identity::default() })
}

/// Header names cannot hold every key: clients escape what does not fit. What is no escape stays as it is.
fn percent_decoded(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the caller has to be allowed for that.
fn needed(wanted: &Identity) -> Vec<Attributes> {
    let one = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Attributes {
        verb: "impersonate".into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
        path: String::new(),
    };
    let mut all = vec![match Identity::split_service_account(&wanted.user) {
        Some((namespace, name)) => one("", "serviceaccounts", "", namespace, name),
        None => one("", "users", "", "", &wanted.user),
    }];
    all.extend(wanted.groups.iter().map(|group| one("", "groups", "", "", group)));
    if !wanted.uid.is_empty() {
        all.push(one("authentication.k8s.io", "uids", "", "", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        all.extend(values.iter().map(|value| one("authentication.k8s.io", "userextras", key, "", value)));
    }
    all
}

/// The groups that come by themselves.
fn complete(mut wanted: Identity) -> Identity {
    if wanted.groups.is_empty()
        && let Some((namespace, name)) = Identity::split_service_account(&wanted.user)
    {
        wanted.groups = Identity::service_account(namespace, name, "").groups;
    }
    let group = if wanted.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !wanted.in_group(AUTHENTICATED) && !wanted.in_group(UNAUTHENTICATED) {
        wanted.groups.push(group.to_owned());
    }
    wanted
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Identity, Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        read(&headers)
    }

    #[test]
    fn every_part_of_who_somebody_is_has_to_be_allowed() {
        let wanted = of(&[
            ("Impersonate-User", "bob"),
            ("Impersonate-Group", "dev"),
            ("Impersonate-Group", "ops"),
            ("Impersonate-Uid", "u1"),
            ("Impersonate-Extra-acme.com%2fproject", "shop"),
        ])
        .unwrap();
        let list: Vec<String> = needed(&wanted)
            .iter()
            .map(|a| format!("{}/{}/{} {}", a.group, a.resource, a.subresource, a.name))
            .collect();
        assert_eq!(
            list,
            [
                "/users/ bob",
                "/groups/ dev",
                "/groups/ ops",
                "authentication.k8s.io/uids/ u1",
                "authentication.k8s.io/userextras/acme.com/project shop"
            ]
        );
        assert_eq!(complete(wanted).groups, ["dev", "ops", AUTHENTICATED]);
    }

    #[test]
    fn accounts_bring_their_groups_and_nobody_is_impersonated_in_part() {
        let account = of(&[("Impersonate-User", "system:serviceaccount:acme:bot")]).unwrap();
        let needed = needed(&account);
        assert_eq!((&*needed[0].resource, &*needed[0].namespace, &*needed[0].name), ("serviceaccounts", "acme", "bot"));
        assert_eq!(
            complete(account).groups,
            ["system:serviceaccounts", "system:serviceaccounts:acme", "system:authenticated"]
        );
        let nobody = complete(of(&[("Impersonate-User", ANONYMOUS)]).unwrap());
        assert!(nobody.is_anonymous() && !nobody.in_group(AUTHENTICATED));
        assert_eq!(of(&[("Impersonate-Group", "system:masters")]).unwrap_err().code(), 400);
    }
}
