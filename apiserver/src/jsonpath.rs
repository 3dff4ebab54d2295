//! The JSONPath of printer columns, scale and selectable fields: `.a.b`, `['a.b']`, `[0]`, `[*]` and filters such as
//! `.status.conditions[?(@.type=="Ready")].status`.

use serde_json::Value;

/// The values `path` finds in `value`, in order. A path that cannot be read finds nothing.
pub(crate) fn find<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let Some(steps) = parse(path) else { return Vec::new() };
    steps.iter().fold(vec![value], |found, step| found.into_iter().flat_map(|value| step.apply(value)).collect())
}

enum Step {
    Key(String),
    Index(i64),
    All,
    Filter { path: String, operator: Comparison, value: Option<Value> },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Exists,
    Equal,
    NotEqual,
}

impl Step {
    fn apply<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Key(key), _) => value.get(key).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => {
                let at = if *index < 0 { index + i64::try_from(items.len()).unwrap_or(i64::MAX) } else { *index };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (Self::Filter { path, operator, value: wanted }, Value::Array(items)) => {
                let holds = |item: &&Value| {
                    let found = find(item, path);
                    match operator {
                        Comparison::Exists => !found.is_empty(),
                        Comparison::Equal => found.first().is_some_and(|f| Some(*f) == wanted.as_ref()),
                        Comparison::NotEqual => found.first().is_some_and(|f| Some(*f) != wanted.as_ref()),
                    }
                };
                items.iter().filter(holds).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn parse(path: &str) -> Option<Vec<Step>> {
    let path = path.trim();
    let mut rest = path.strip_prefix('{').and_then(|p| p.strip_suffix('}')).unwrap_or(path);
    rest = rest.strip_prefix('$').unwrap_or(rest);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = closing(inner)?;
            steps.push(bracket(inner[..end].trim())?);
            rest = &inner[end + 1..];
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        // A dot in a key is written `\.`.
        let mut key = String::new();
        let mut chars = rest.char_indices();
        let mut end = rest.len();
        while let Some((index, c)) = chars.next() {
            match c {
                '.' | '[' => {
                    end = index;
                    break;
                }
                '\\' => key.extend(chars.next().map(|(_, c)| c)),
                c => key.push(c),
            }
        }
        match key.as_str() {
            "" if rest.starts_with('[') => {}
            "" => return None,
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Key(key)),
        }
        rest = &rest[end..];
    }
    Some(steps)
}

/// The position of the bracket that closes what was opened before `text`, outside of quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0_usize);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(index),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str) -> Option<Step> {
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        let (left, operator, right) = match (filter.split_once("=="), filter.split_once("!=")) {
            (Some((left, right)), _) => (left, Comparison::Equal, Some(right)),
            (None, Some((left, right))) => (left, Comparison::NotEqual, Some(right)),
            (None, None) => (filter, Comparison::Exists, None),
        };
        let path = left.trim().strip_prefix('@')?.to_owned();
        let value = match right.map(str::trim) {
            None => None,
            Some(text) => Some(match quoted(text) {
                Some(text) => Value::String(text.to_owned()),
                None => serde_json::from_str(text).ok()?,
            }),
        };
        return Some(Step::Filter { path, operator, value });
    }
    if let Some(key) = quoted(text) {
        return Some(Step::Key(key.to_owned()));
    }
    text.parse().ok().map(Step::Index)
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_they_name() {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "note"}},
            "spec": {"list": [1, 2, 3], "env": [{"name": "A", "value": "x"}, {"name": "B"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Built", "status": "False", "n": 2}]},
        });
        let check = |path: &str, expected: Value| assert_eq!(json!(find(&object, path)), expected, "{path}");
        check(".spec.list", json!([[1, 2, 3]]));
        check("{.spec.list[0]}", json!([1]));
        check(".spec.list[-1]", json!([3]));
        check(".spec.list[9]", json!([]));
        check(".spec.list[*]", json!([1, 2, 3]));
        check(".spec.env[*].name", json!(["A", "B"]));
        check(".spec.env[?(@.value)].name", json!(["A"]));
        check(r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"]));
        check(".status.conditions[?(@.type == 'Built')].status", json!(["False"]));
        check(".status.conditions[?(@.type!='Built')].type", json!(["Ready"]));
        check(".status.conditions[?(@.n==2)].type", json!(["Built"]));
        check(r".metadata.annotations.a\.b/c", json!(["note"]));
        check(".metadata.annotations['a.b/c']", json!(["note"]));
        check(".nothing.here", json!([]));
        check(".spec[", json!([]));
        check("", json!([object]));
    }
}
