//! From a word (`app`, `applications`, `applications.berth.dev`, `berth`) to the kinds it means.

use anyhow::Context;
use serde_json::Value;

use super::Session;
use crate::failure::{Exit, fail};

/// A kind, as discovery describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group_version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    singular: String,
    short_names: Vec<String>,
    categories: Vec<String>,
    pub(crate) namespaced: bool,
}

impl Resource {
    fn group(&self) -> &str {
        self.group_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// `applications.berth.dev`, or `secrets` in the core group.
    pub(crate) fn qualified(&self) -> String {
        if self.group().is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group()) }
    }

    fn is_called(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        word == self.plural
            || word == self.singular
            || word == self.kind.to_lowercase()
            || word == self.qualified()
            || (!self.group().is_empty() && word == format!("{}.{}", self.kind.to_lowercase(), self.group()))
            || self.short_names.contains(&word)
    }

    /// The path of the list of them.
    pub(crate) fn list_path(&self, namespace: Option<&str>) -> String {
        let root = if self.group().is_empty() { "/api" } else { "/apis" };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => {
                format!("{root}/{}/namespaces/{}/{}", self.group_version, segment(namespace), self.plural)
            }
            None => format!("{root}/{}/{}", self.group_version, self.plural),
        }
    }

    /// The path of one.
    pub(crate) fn path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.list_path(Some(namespace)), segment(name))
    }

    /// `application.berth.dev/shop`, as kubectl writes it and every command takes it.
    pub(crate) fn title(&self, name: &str) -> String {
        let kind = self.kind.to_lowercase();
        if self.group().is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{}/{name}", self.group()) }
    }
}

/// Refuses what cannot be one segment of a path: the server would answer about something else.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '%']) || name.contains(char::is_control) {
        return Err(fail(Exit::Usage, format!("{name:?} cannot be a name")));
    }
    Ok(())
}

/// A name as one segment of a path: whatever the person typed, it stays one.
pub(crate) fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// All kinds of the server, asked for once.
pub(crate) async fn all(session: &Session) -> anyhow::Result<&[Resource]> {
    session.kinds.get_or_try_init(|| discover(session)).await.map(Vec::as_slice)
}

async fn discover(session: &Session) -> anyhow::Result<Vec<Resource>> {
    let groups = session.send("GET", "/apis", "application/json").await?;
    let mut versions = vec!["v1".to_owned()];
    for group in groups["groups"].as_array().into_iter().flatten() {
        versions.extend(group["preferredVersion"]["groupVersion"].as_str().map(str::to_owned));
    }
    // The first kind that a word fits is meant: `node` is Berth's and not Kubernetes' view of it.
    versions.sort_by_key(|version| !version.starts_with("berth.dev/"));
    let mut resources = Vec::new();
    for version in versions {
        let path = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let list = session.send("GET", &path, "application/json").await?;
        resources.extend(list["resources"].as_array().into_iter().flatten().filter_map(|row| read(&version, row)));
    }
    Ok(resources)
}

fn read(group_version: &str, row: &Value) -> Option<Resource> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let plural = row["name"].as_str().filter(|name| !name.contains('/'))?;
    // Reviews are questions, not objects.
    if !texts(&row["verbs"]).iter().any(|verb| verb == "get") {
        return None;
    }
    Some(Resource {
        group_version: group_version.to_owned(),
        kind: row["kind"].as_str()?.to_owned(),
        plural: plural.to_owned(),
        singular: row["singularName"].as_str().unwrap_or_default().to_owned(),
        short_names: texts(&row["shortNames"]),
        categories: texts(&row["categories"]),
        namespaced: row["namespaced"].as_bool()?,
    })
}

/// The kinds that a word means: one, or all of a category.
pub(crate) async fn find(session: &Session, word: &str) -> anyhow::Result<Vec<Resource>> {
    let resources = all(session).await?;
    if let Some(resource) = resources.iter().find(|resource| resource.is_called(word)) {
        return Ok(vec![resource.clone()]);
    }
    let of_category: Vec<Resource> =
        resources.iter().filter(|resource| resource.categories.iter().any(|c| c == word)).cloned().collect();
    if of_category.is_empty() {
        let mut known: Vec<&str> = resources.iter().map(|resource| resource.plural.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        return Err(fail(Exit::Usage, format!("the server has no kind {word:?}; it has {}", known.join(", "))));
    }
    Ok(of_category)
}

/// The one kind that a word means.
pub(crate) async fn find_one(session: &Session, word: &str) -> anyhow::Result<Resource> {
    let mut found = find(session, word).await?;
    if found.len() > 1 {
        return Err(fail(Exit::Usage, format!("{word:?} means {} kinds: name one", found.len())));
    }
    found.pop().context("a search without a result fails before")
}

/// The kind of an object in a file.
pub(crate) async fn of_object(session: &Session, object: &Value) -> anyhow::Result<Resource> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let kinds = all(session).await?;
    if let Some(found) = kinds.iter().find(|resource| resource.group_version == version && resource.kind == kind) {
        return Ok(found.clone());
    }
    let near = kinds.iter().find(|resource| resource.kind.eq_ignore_ascii_case(&kind));
    let hint = near.map_or_else(
        || {
            let mut names: Vec<&str> = kinds.iter().map(|resource| resource.kind.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            format!("it has {}", names.join(", "))
        },
        |near| format!("there is {} in {}", near.kind, near.group_version),
    );
    Err(fail(Exit::Refused, format!("the server has no kind {kind:?} in version {version:?}; {hint}")))
}

/// What a command line means: kinds, each with names or with none for all of them.
///
/// `app shop blog`, `app/shop plan/small`, `plans,runtimes`, `berth`.
pub(crate) async fn targets(
    session: &Session,
    first: &str,
    more: &[String],
) -> anyhow::Result<Vec<(Resource, Vec<String>)>> {
    let pairs = first.contains('/') || more.iter().any(|word| word.contains('/'));
    if !pairs {
        more.iter().try_for_each(|name| check_name(name))?;
        let mut found = Vec::new();
        for word in first.split(',').filter(|word| !word.is_empty()) {
            found.extend(find(session, word).await?.into_iter().map(|resource| (resource, more.to_vec())));
        }
        if found.is_empty() {
            return Err(fail(Exit::Usage, "name a kind"));
        }
        if found.len() > 1 && !more.is_empty() {
            return Err(fail(Exit::Usage, format!("{first:?} means {} kinds: names need one kind", found.len())));
        }
        return Ok(found);
    }
    let mut found: Vec<(Resource, Vec<String>)> = Vec::new();
    for word in std::iter::once(first).chain(more.iter().map(String::as_str)) {
        let Some((kind, name)) = word.split_once('/') else {
            return Err(fail(Exit::Usage, "give either KIND/NAME or KIND NAME…, not both: no name has a /"));
        };
        check_name(name)?;
        let resource = find_one(session, kind).await?;
        match found.last_mut().filter(|(last, _)| *last == resource) {
            Some((_, names)) => names.push(name.to_owned()),
            None => found.push((resource, vec![name.to_owned()])),
        }
    }
    Ok(found)
}

/// The name of an application, also where it is written as `app/shop`.
pub(crate) fn application_name(text: &str) -> anyhow::Result<&str> {
    let name = match text.split_once('/') {
        Some(("app" | "application" | "applications" | "application.berth.dev" | "applications.berth.dev", name)) => {
            name
        }
        _ => text,
    };
    check_name(name)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_typed_stays_one_segment() {
        assert_eq!(segment("web"), "web");
        assert_eq!(segment("../../x?y#z a"), "..%2F..%2Fx%3Fy%23z%20a");
    }

    #[test]
    fn names_that_mean_another_path_are_refused() {
        for bad in ["", ".", "..", "a/b", "%2e", "a\nb", "../secrets"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_name("a b:é").is_ok());
        assert_eq!(application_name("app/shop").unwrap(), "shop");
        assert!(application_name("plan/shop").is_err());
    }

    #[test]
    fn words_of_kubectl_name_kinds() {
        let row = serde_json::json!({"name": "applications", "kind": "Application", "singularName": "application",
            "shortNames": ["app"], "categories": ["berth"], "namespaced": true, "verbs": ["get", "list"]});
        let resource = read("berth.dev/v1alpha1", &row).unwrap();
        for word in ["app", "Application", "applications", "applications.berth.dev", "application.berth.dev"] {
            assert!(resource.is_called(word), "{word}");
        }
        assert_eq!(resource.title("web"), "application.berth.dev/web");
        assert_eq!(resource.path("acme", "web"), "/apis/berth.dev/v1alpha1/namespaces/acme/applications/web");
        assert!(read("v1", &serde_json::json!({"name": "pods/log", "kind": "Pod", "namespaced": true})).is_none());
    }
}
