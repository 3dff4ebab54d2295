//! `kubectl get`'s tables and `PartialObjectMetadata`: the forms a client may ask for by `Accept: …;as=Table`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::jsonpath;
use crate::kind::{Column, Kind};

/// What each row carries besides its cells: the query parameter `includeObject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Cells only.
    None,
    /// The metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; absent or empty means metadata.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        match text {
            None | Some("" | "Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(format!("unrecognized includeObject value: {other:?}")),
        }
    }
}

/// The `Table` of one object or a list. `list_metadata` is the list's (or, for one object, a `ListMeta` with its
/// resourceVersion); `columns` is false for all events of a watch but the first.
pub fn table<'a>(
    kind: &Kind,
    objects: impl IntoIterator<Item = &'a Value>,
    list_metadata: Value,
    include: IncludeObject,
    columns: bool,
    now: Timestamp,
) -> Value {
    let shown = shown(kind);
    let definitions = if columns { json!(shown.iter().map(definition).collect::<Vec<_>>()) } else { Value::Null };
    let rows: Vec<Value> = objects.into_iter().map(|object| row(&shown, object, include, now)).collect();
    let mut table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1"});
    table["metadata"] = list_metadata;
    table["columnDefinitions"] = definitions;
    table["rows"] = Value::Array(rows);
    table
}

/// The kind's columns as Kubernetes completes them: NAME before (unless the kind places it itself), and AGE when
/// there is no other.
fn shown(kind: &Kind) -> Vec<Column> {
    let column = |name: &str, type_: &str, format: &str, json_path: &str, description: &str| Column {
        name: name.to_owned(),
        type_: type_.to_owned(),
        format: format.to_owned(),
        description: description.to_owned(),
        priority: 0,
        json_path: json_path.to_owned(),
        cell: None,
    };
    let mut columns = Vec::new();
    if !kind.columns.iter().any(|c| c.name == "Name") {
        columns.push(column("Name", "string", "name", ".metadata.name", "Name must be unique within a namespace."));
    }
    if kind.columns.is_empty() {
        columns.push(column("Age", "date", "", ".metadata.creationTimestamp", "When the object was created."));
    }
    columns.extend(kind.columns.iter().cloned());
    columns
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.type_,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

fn row(columns: &[Column], object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let cells: Vec<Value> = columns.iter().map(|column| cell(column, object, now)).collect();
    match include {
        IncludeObject::None => json!({"cells": cells, "object": null}),
        IncludeObject::Metadata => json!({"cells": cells, "object": partial(object)}),
        IncludeObject::Object => json!({"cells": cells, "object": object}),
    }
}

/// The value of one cell: of the column's type, or null when there is none (or one of another type).
fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let value = match column.cell {
        Some(compute) => compute(object),
        None => jsonpath::find(object, &column.json_path).first().map_or(Value::Null, |value| (*value).clone()),
    };
    match (column.type_.as_str(), value) {
        (_, Value::Null) => Value::Null,
        ("string", value @ Value::String(_))
        | ("number", value @ Value::Number(_))
        | ("boolean", value @ Value::Bool(_)) => value,
        ("string", value) => Value::String(value.to_string()),
        ("integer", Value::Number(n)) => {
            n.as_i64().map_or_else(|| n.as_f64().map_or(Value::Null, |f| json!(f.trunc())), Value::from)
        }
        ("date", Value::String(text)) => Value::String(age(&text, now)),
        _ => Value::Null,
    }
}

/// How long ago an RFC 3339 time was, as `kubectl get` shows it.
pub fn age(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) => human_duration(now.as_second().saturating_sub(then.as_second())),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// A duration of so many seconds in at most two units, as `duration.HumanDuration` writes it.
pub fn human_duration(seconds: i64) -> String {
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        // Clocks differ a little; a time further ahead is wrong.
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// An object's `PartialObjectMetadata`.
pub fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// The `PartialObjectMetadataList` of objects.
pub fn partial_list<'a>(objects: impl IntoIterator<Item = &'a Value>, list_metadata: Value) -> Value {
    let mut list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"});
    list["metadata"] = list_metadata;
    list["items"] = objects.into_iter().map(partial).collect();
    list
}

#[cfg(test)]
mod tests;
