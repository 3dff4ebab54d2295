//! Structural OpenAPI v3 schemas: defaults, pruning, validation and CEL rules, as a Kubernetes API server applies them.

mod bounds;
mod check;
mod default;
mod format;
pub mod metadata;
mod node;
pub mod object_meta;
pub(crate) mod path;
mod prune;
mod rules;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::kind::FieldError;

use node::Node;
use rules::Run;

/// A schema made ready for use: checked, its patterns and CEL rules compiled once.
#[derive(Debug)]
pub struct Schema {
    root: Node,
}

impl Schema {
    /// Compiles the structural schema of a whole object; the error names the path of what is not structural or does
    /// not compile. `metadata` is always an ObjectMeta; what the schema says of it is asked in addition.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        let mut schema = schema.clone();
        let root = schema.as_object_mut().ok_or("a schema must be an object")?;
        let properties = root.entry("properties").or_insert_with(|| json!({}));
        let properties = properties.as_object_mut().ok_or("properties: must be an object")?;
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
        let asked = properties.insert("metadata".to_owned(), object_meta::plain());
        let mut root = Node::structural(&schema)?;
        if let Some(asked) = asked
            && let Some(metadata) = root.properties.get_mut("metadata")
        {
            metadata.also.push(Node::constraint(&asked).map_err(|error| format!("metadata: {error}"))?);
        }
        Ok(Self { root })
    }

    /// Fills in defaults. A `null` where none may stand makes way for the default or is dropped.
    pub fn default(&self, object: &mut Value) {
        default::default(&self.root, object);
    }

    /// Removes unknown fields and returns their paths, for example `spec.env[0].bar`.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut removed = Vec::new();
        prune::prune(&self.root, object, "", &mut removed);
        removed
    }

    /// Checks `object`; `old` is the stored state on update, for rules on transitions. Names, labels and the rest of
    /// what all kinds have in common are checked by [`metadata::validate`].
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        check::check(&self.root, object, old, "", &mut Run::new(), &mut errors);
        errors
    }
}
