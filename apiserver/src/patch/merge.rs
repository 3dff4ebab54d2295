//! JSON merge patch (RFC 7386).

use serde_json::Value;

use super::PatchError;

/// Applies `patch` to `current`: objects merge, `null` removes, everything else replaces.
pub fn apply(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch = super::object(patch)?;
    let mut result = current.clone();
    json_patch::merge(&mut result, &patch);
    Ok(result)
}
