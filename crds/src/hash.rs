//! Names that follow from content, so that a crash between two actions leaves nothing unrecognisable.

use aws_lc_rs::digest;
use serde::Serialize;

/// The first `length` hexadecimal digits (at most 64) of the SHA-256 of a value's JSON.
///
/// Field order is the types' own and maps are ordered, so equal values have equal hashes.
pub fn short(value: &impl Serialize, length: usize) -> String {
    let json = serde_json::to_vec(value).expect("resource types serialise: their map keys are strings");
    let mut text = hex::encode(digest::digest(&digest::SHA256, &json));
    text.truncate(length);
    text
}
