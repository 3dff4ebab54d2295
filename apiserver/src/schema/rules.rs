//! `x-kubernetes-validations`: rules in CEL, evaluated by kube-cel.
//!
//! The walk over the object is ours, because it knows which old value belongs to which new one (by list-map keys) and
//! which values have not changed; kube-cel compiles and evaluates the rules of one place.

use kube_cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use serde_json::{Map, Value, json};

use crate::kind::{FieldError, FieldErrorReason};

/// How many JSON values may be handed to rules while one object is checked. The largest request body (3 MiB) has some
/// hundred thousand; a schema whose rules sit at many levels sees each value a few times. Past it the object is refused.
pub(super) const BUDGET: usize = 2_000_000;

/// The longest message an expression may produce (`celconfig.MaxEvaluatedMessageExpressionSizeBytes`).
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

/// The rules of one place in a schema.
#[derive(Debug)]
pub(super) struct Rules {
    /// Rules about the value alone.
    plain: Option<CompiledSchema>,
    /// Rules that compare with the old value.
    transition: Option<CompiledSchema>,
    type_: String,
}

impl Rules {
    /// Compiles the rules standing directly in `schema`; `None` if there are none.
    pub(super) fn compile(schema: &Value) -> Result<Option<Box<Self>>, String> {
        let Some(rules) = schema.get("x-kubernetes-validations").and_then(Value::as_array).filter(|r| !r.is_empty())
        else {
            return Ok(None);
        };
        let mut shape = shape(schema);
        let mut compiled = |wanted: bool| -> Result<Option<CompiledSchema>, String> {
            // Rules are compiled one by one to learn which of them look at the old value.
            let mut chosen = Vec::new();
            for rule in rules {
                let alone = compile_schema(&json!({"type": "object", "x-kubernetes-validations": [rule]}));
                match alone.validations.first() {
                    Some(Ok(result)) if result.is_transition_rule == wanted => chosen.push(rule.clone()),
                    Some(Ok(_)) | None => {}
                    Some(Err(error)) => return Err(format!("x-kubernetes-validations: {error}")),
                }
            }
            if chosen.is_empty() {
                return Ok(None);
            }
            shape["x-kubernetes-validations"] = Value::Array(chosen);
            Ok(Some(compile_schema(&shape)))
        };
        Ok(Some(Box::new(Self {
            plain: compiled(false)?,
            transition: compiled(true)?,
            type_: schema.get("type").and_then(Value::as_str).unwrap_or("object").to_owned(),
        })))
    }

    /// Evaluates the rules for a value at `path`. A value that did not change need not meet rules again.
    pub(super) fn check(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        run: &mut Run,
        errors: &mut Vec<FieldError>,
    ) {
        let unchanged = old == Some(value);
        let plain = self.plain.as_ref().filter(|_| !unchanged);
        for compiled in plain.into_iter().chain(self.transition.as_ref()) {
            let cost = size(value) + old.map_or(0, size);
            if run.left < cost {
                if !std::mem::replace(&mut run.exhausted, true) {
                    errors.push(self.error(
                        path,
                        None,
                        "validation failed due to running out of cost budget, no further validation rules will be run",
                    ));
                }
                return;
            }
            run.left -= cost;
            let old = old.filter(|old| !old.is_null());
            let Err(failures) =
                run.validator.get_or_insert_with(Validator::new).validate_compiled(compiled, value, old)
            else {
                continue;
            };
            for failure in failures {
                let inner = failure.field_path.trim_start_matches('.');
                let field = if inner.is_empty() { path.to_owned() } else { super::path::child(path, inner) };
                let detail = match failure.kind {
                    ErrorKind::ValidationFailure => message(&failure.message, compiled, &failure.rule),
                    _ => format!("{} evaluating rule: {}", failure.message, failure.rule.trim()),
                };
                errors.push(self.error(&field, failure.reason.as_deref(), &detail));
            }
        }
    }

    fn error(&self, field: &str, reason: Option<&str>, detail: &str) -> FieldError {
        let (reason, message) = match reason {
            Some("FieldValueForbidden") => (FieldErrorReason::Forbidden, format!("Forbidden: {detail}")),
            Some("FieldValueRequired") => (FieldErrorReason::Required, format!("Required value: {detail}")),
            Some("FieldValueDuplicate") => (FieldErrorReason::Duplicate, format!("Duplicate value: {:?}", self.type_)),
            _ => (FieldErrorReason::Invalid, format!("Invalid value: {:?}: {detail}", self.type_)),
        };
        FieldError { field: field.to_owned(), reason, message }
    }
}

/// What is shared by all rules evaluated for one object.
pub(super) struct Run {
    /// Made when the first rule needs it: most kinds have none, and it knows a hundred functions by name.
    validator: Option<Validator>,
    left: usize,
    exhausted: bool,
}

impl Run {
    pub(super) fn new() -> Self {
        Self { validator: None, left: BUDGET, exhausted: false }
    }
}

/// A computed message that is empty, too long or of several lines gives way to the fixed one.
fn message(text: &str, compiled: &CompiledSchema, rule: &str) -> String {
    let text = text.trim();
    if !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n') {
        return text.to_owned();
    }
    let mut rules = compiled.validations.iter().flatten().map(|r| &r.rule);
    let fixed = rules.find(|r| r.rule == rule).and_then(|r| r.message.as_deref()).unwrap_or_default().trim();
    if fixed.is_empty() { format!("failed rule: {}", rule.trim()) } else { fixed.to_owned() }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// The part of a schema that decides how values look to CEL, without the rules and defaults further down.
fn shape(schema: &Value) -> Value {
    let Some(map) = schema.as_object() else { return json!({}) };
    let mut out = Map::new();
    for (key, value) in map {
        match key.as_str() {
            "type"
            | "format"
            | "x-kubernetes-int-or-string"
            | "x-kubernetes-preserve-unknown-fields"
            | "x-kubernetes-embedded-resource" => {
                out.insert(key.clone(), value.clone());
            }
            "items" => {
                out.insert(key.clone(), shape(value));
            }
            "additionalProperties" => {
                out.insert(key.clone(), if value.is_object() { shape(value) } else { value.clone() });
            }
            "properties" => {
                let inner = value.as_object().into_iter().flatten().map(|(name, schema)| (name.clone(), shape(schema)));
                out.insert(key.clone(), Value::Object(inner.collect()));
            }
            _ => {}
        }
    }
    Value::Object(out)
}
