//! JSON patch (RFC 6902), as lenient about absent members as the library Kubernetes uses.

use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::PatchError;
use crate::decode::DEPTH_MAX;

/// The most operations in one patch (`handlers.maxJSONPatchOperations`).
pub const OPERATIONS_MAX: usize = 10_000;
/// The most that `copy` may add up to (`JSONPatchMaxCopyBytes`): a few operations could otherwise double an object
/// until memory is gone.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Applies the operations in order; all or nothing.
pub fn apply(current: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch: json_patch::Patch =
        serde_json::from_slice(patch).map_err(|error| PatchError::Syntax(format!("error decoding patch: {error}")))?;
    if patch.0.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            patch.0.len()
        )));
    }
    let mut result = current.clone();
    let mut copied = 0;
    for (index, operation) in patch.0.iter().enumerate() {
        let failed = |why: &str| PatchError::Failed(format!("operation {index} ({operation}) failed: {why}"));
        match operation {
            PatchOperation::Test(test) => {
                // A member that is not there equals null: clients ask so before they add the first finalizer.
                let found = test.path.resolve(&result).unwrap_or(&Value::Null);
                if *found != test.value {
                    return Err(failed(&format!("testing value {} failed: it is {found}", test.path)));
                }
                continue;
            }
            PatchOperation::Copy(copy) => {
                copied += copy.from.resolve(&result).map_or(0, bytes);
                if copied > COPIED_BYTES_MAX {
                    return Err(PatchError::TooLarge(format!("the patch copies more than {COPIED_BYTES_MAX} bytes")));
                }
            }
            PatchOperation::Add(_)
            | PatchOperation::Remove(_)
            | PatchOperation::Replace(_)
            | PatchOperation::Move(_) => {}
        }
        json_patch::patch(&mut result, std::slice::from_ref(operation)).map_err(|error| {
            failed(match error.kind {
                PatchErrorKind::InvalidPointer => "there is no such path",
                PatchErrorKind::InvalidFromPointer => "there is nothing at \"from\"",
                PatchErrorKind::CannotMoveInsideItself => "a value cannot be moved into itself",
                _ => "it does not fit the object",
            })
        })?;
    }
    if too_deep(&result, DEPTH_MAX) {
        return Err(PatchError::Failed(format!("the patched object is nested deeper than {DEPTH_MAX} levels")));
    }
    Ok(result)
}

/// About the length of the value as JSON text.
fn bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|v| bytes(v) + 1).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| k.len() + 4 + bytes(v)).sum::<usize>(),
    }
}

fn too_deep(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left == 0 || items.iter().any(|v| too_deep(v, left - 1)),
        Value::Object(map) => left == 0 || map.values().any(|v| too_deep(v, left - 1)),
        _ => false,
    }
}
