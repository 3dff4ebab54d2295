//! Reads what `-f` names: files, folders, standard input; YAML streams, JSON, lists.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use crate::failure::{Exit, fail};

/// More than anybody writes by hand, and little enough to keep in memory.
const BYTES_MAX: u64 = 16 << 20;
/// More than a server is given at once, and the smallest resource has ten nodes.
const DOCUMENTS_MAX: usize = 100_000;
/// Each takes some 100 bytes of memory when it is read.
const NODES_MAX: usize = 1_000_000;
/// What anchors name is written down to be repeated. Nobody repeats so much by hand; a bomb does.
const ANCHORED_MAX: usize = 50_000;
/// kubectl reads these.
const EXTENSIONS: &[&str] = &["yaml", "yml", "json"];

/// An object and the file it stands in.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) origin: String,
    pub(crate) object: Value,
}

/// All objects that the files hold, in their order.
pub(crate) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in files {
        if file.is_dir() {
            let mut inside: Vec<PathBuf> = std::fs::read_dir(file)
                .map_err(|error| unreadable(&file.display().to_string(), &error))?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known)))
                .collect();
            inside.sort();
            for path in inside {
                documents.extend(read_file(&path)?);
            }
        } else {
            documents.extend(read_file(file)?);
        }
    }
    if documents.is_empty() {
        let shown = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(fail(Exit::Usage, format!("there are no resources in {shown}")));
    }
    Ok(documents)
}

fn unreadable(shown: &str, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::InvalidData => fail(Exit::Refused, format!("{shown} is no text: it is not UTF-8")),
        _ => fail(Exit::Usage, format!("cannot read {shown}: {error}")),
    }
}

fn read_file(path: &Path) -> anyhow::Result<Vec<Document>> {
    let from_stdin = path == Path::new("-");
    let shown = if from_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let mut text = String::new();
    let bytes = if from_stdin {
        std::io::stdin().take(BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text))
    };
    if bytes.map_err(|error| unreadable(&shown, &error))? as u64 > BYTES_MAX {
        return Err(fail(Exit::Usage, format!("{shown} is larger than 16 MiB")));
    }
    let objects = parse(&text).map_err(|error| fail(Exit::Refused, format!("{shown}: {error:#}")))?;
    Ok(objects.into_iter().map(|object| Document { origin: shown.clone(), object }).collect())
}

/// The objects of a YAML or JSON text.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for document in documents(text)? {
        match document {
            Value::Null => {}
            Value::Object(mut map) if map.get("kind").is_some_and(is_list) && map.contains_key("items") => {
                match map.remove("items") {
                    Some(Value::Array(items)) => objects.extend(items),
                    _ => anyhow::bail!("the items of a List are no list"),
                }
            }
            other => objects.push(other),
        }
    }
    for (index, object) in objects.iter().enumerate() {
        let which = if objects.len() > 1 { format!("resource {}", index + 1) } else { "the resource".to_owned() };
        if !object.is_object() {
            anyhow::bail!("{which} is not a map with apiVersion, kind and metadata");
        }
        for field in ["/apiVersion", "/kind", "/metadata/name"] {
            let name = field[1..].replace('/', ".");
            match object.pointer(field) {
                Some(Value::String(text)) if !text.is_empty() => {}
                None | Some(Value::Null | Value::String(_)) => anyhow::bail!("{which} has no {name}"),
                Some(other) => anyhow::bail!("{which}: {name} must be a text, not {other}: put it in quotes"),
            }
        }
        super::resource::check_name(object["metadata"]["name"].as_str().unwrap_or_default()).with_context(|| which)?;
    }
    Ok(objects)
}

fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    // JSON has its own reader: YAML's is slower, and knows no tabs.
    if text.trim_start().starts_with('{') {
        let read: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
        if let Ok(documents) = read {
            return Ok(documents);
        }
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: DOCUMENTS_MAX,
            max_nodes: NODES_MAX,
            max_events: NODES_MAX * 4,
            max_recorded_anchor_events: ANCHORED_MAX,
        },
        strict_booleans: false,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    Ok(serde_saphyr::from_multiple_with_options(text, options)?)
}

fn is_list(kind: &Value) -> bool {
    kind.as_str().is_some_and(|kind| kind.ends_with("List"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_streams_and_lists() {
        let text = "# nothing\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n{\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\",\"kind\":\"B\",\"metadata\":{\"name\":\"b\"}}]}\n";
        let kinds: Vec<Value> = parse(text).unwrap().iter().map(|object| object["kind"].clone()).collect();
        assert_eq!(kinds, ["A", "B"]);
        let tabs = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"A\",\n\t\"metadata\": {\"name\": \"a\"}\n}\n";
        assert_eq!(parse(tabs).unwrap().len(), 1);
    }

    #[test]
    fn long_streams_are_read_and_bombs_are_not() {
        let one = |n: usize| format!("---\napiVersion: v1\nkind: A\nmetadata: {{name: a-{n}}}\n");
        let many = (0..3000).map(one).collect::<Vec<_>>().concat();
        assert_eq!(parse(&many).unwrap().len(), 3000);
        let level = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","));
        let bomb = (1..12).map(level).collect::<Vec<_>>().concat();
        assert!(parse(&format!("a0: &a0 [x]\n{bomb}")).is_err());
    }

    #[test]
    fn says_what_is_missing() {
        let check = |text: &str, expected: &str| {
            assert_eq!(format!("{:#}", parse(text).unwrap_err()), expected, "{text}");
        };
        check("kind: A\nmetadata: {name: a}\n", "the resource has no apiVersion");
        check("apiVersion: v1\nkind: A\nmetadata: {}\n", "the resource has no metadata.name");
        check("apiVersion: v1\nkind: A\n", "the resource has no metadata.name");
        check(
            "apiVersion: v1\nkind: A\nmetadata: {name: 12}\n",
            "the resource: metadata.name must be a text, not 12: put it in quotes",
        );
        check("apiVersion: v1\nkind: A\nmetadata: {name: a/b}\n", "the resource: \"a/b\" cannot be a name");
        check("just text", "the resource is not a map with apiVersion, kind and metadata");
        check(
            "{apiVersion: v1, kind: A, metadata: {name: a}}\n---\n- 1\n",
            "resource 2 is not a map with apiVersion, kind and metadata",
        );
        check("{kind: List, items: 1}", "the items of a List are no list");
        assert!(parse("a: [1, 2").is_err());
        assert!(parse("a: 1\na: 2\n").is_err(), "a key that stands twice is a mistake");
    }
}
