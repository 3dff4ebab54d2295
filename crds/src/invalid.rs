//! One wrong field, in Kubernetes' words.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, for example `spec.domains[0]`.
    pub field: String,
    /// The value and what is allowed, for example `Invalid value: "a b": must be a host name`.
    pub message: String,
}

impl Invalid {
    /// A value that breaks a rule; `allowed` says which values do not.
    pub fn value(field: impl Into<String>, value: impl std::fmt::Debug, allowed: impl std::fmt::Display) -> Self {
        Self { field: field.into(), message: format!("Invalid value: {value:?}: {allowed}") }
    }
}

/// Runs a typed check on an object given as JSON, which its schema has passed. What the types still refuse, such as a
/// quantity below zero, is told with its path.
pub(crate) fn typed<K: DeserializeOwned>(object: &Value, check: impl Fn(&K) -> Vec<Invalid>) -> Vec<Invalid> {
    match serde_path_to_error::deserialize::<_, K>(object.clone()) {
        Ok(typed) => check(&typed),
        Err(error) => {
            let field = error.path().to_string();
            let value = object.pointer(&format!("/{}", field.replace('.', "/").replace(['[', ']'], "")));
            let shown = value.map_or_else(String::new, |value| format!("{value}: "));
            vec![Invalid { message: format!("Invalid value: {shown}{}", error.inner()), field }]
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_types_refuse_is_told_with_its_path() {
        let plan = serde_json::json!({"metadata": {"name": "p"}, "apiVersion": "berth.dev/v1alpha1", "kind": "Plan",
            "spec": {"cpu": -1, "memory": "1Gi", "disk": "1Gi", "pricePerHour": "0.01"}});
        let wrong = crate::plan::validate_json(&plan);
        assert_eq!(wrong.len(), 1);
        assert_eq!(wrong[0].field, "spec.cpu");
        assert!(wrong[0].message.starts_with("Invalid value: -1: must be a quantity"), "{}", wrong[0].message);
    }
}
