//! JSON merge patch (RFC 7386).

use serde_json::Value;

use super::PatchError;

/// Applies `patch` to `current`: objects merge, `null` removes, everything else replaces.
pub fn apply(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch = crate::decode::json(patch).map_err(|error| PatchError::Syntax(error.to_string()))?.value;
    if !patch.is_object() {
        return Err(PatchError::Syntax("a merge patch must be a JSON object".to_owned()));
    }
    let mut result = current.clone();
    json_patch::merge(&mut result, &patch);
    Ok(result)
}
