//! JSON patch (RFC 6902), as lenient with absent members as the library Kubernetes uses.

use serde_json::Value;

use super::PatchError;

/// The most operations in one patch (`handlers.maxJSONPatchOperations`).
pub const OPERATIONS_MAX: usize = 10_000;

/// Applies the operations in order; all or nothing.
pub fn apply(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch: json_patch::Patch = serde_json::from_slice(patch).map_err(|error| PatchError::Syntax(error.to_string()))?;
    let mut result = current.clone();
    json_patch::patch(&mut result, &patch).map_err(|error| PatchError::Failed(error.to_string()))?;
    Ok(result)
}
