//! Environment variables of an application.

use std::collections::BTreeSet;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;

/// One environment variable: a value, or a reference to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.value) && has(self.valueFrom))").message("give either value or valueFrom, not both"))]
pub struct EnvVar {
    /// Its name: letters, digits and `_`.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value, at most 32 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub value: Option<String>,
    /// Where its value is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// Where a value is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVarSource {
    /// A key of a Secret in the same namespace.
    pub secret_key_ref: SecretKeyRef,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of a Secret in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// The longest value.
pub const VALUE_BYTES_MAX: usize = 32 << 10;
/// What Berth sets itself.
const RESERVED: &[&str] = &["PORT", "HOSTNAME"];

/// What is wrong with a list of variables, if anything.
pub fn validate(variables: &[EnvVar], field: &str) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, variable) in variables.iter().enumerate() {
        let name = format!("{field}[{index}].name");
        if RESERVED.contains(&variable.name.as_str()) {
            wrong.push(Invalid::value(&name, &variable.name, "is set by Berth; the port is spec.start.port"));
        }
        if variable.name.starts_with("BERTH_") {
            wrong.push(Invalid::value(&name, &variable.name, "names that start with BERTH_ are set by Berth"));
        }
        if !seen.insert(&variable.name) {
            wrong.push(Invalid { field: name, message: format!("Duplicate value: {:?}", variable.name) });
        }
        if variable.value.as_deref().is_some_and(|value| value.contains('\0')) {
            wrong.push(Invalid {
                field: format!("{field}[{index}].value"),
                message: "Invalid value: must not have a NUL character".to_owned(),
            });
        }
    }
    wrong
}
