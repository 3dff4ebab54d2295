//! From a request body to JSON: JSON, YAML or a Kubernetes protobuf envelope. Never panics, whatever the bytes.

use serde_json::Value;

use crate::kind::DecodeProtobuf;

/// A body that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object; integers are kept as 64-bit integers.
    pub value: Value,
    /// Complaints of strict decoding, such as `duplicate field "spec.foo"`: an error, a warning or nothing,
    /// depending on `fieldValidation`. The last of the duplicates counts.
    pub problems: Vec<String>,
}

/// Why a body was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// 415: nobody here reads that content type.
    #[error("the body of the request was in an unknown format - accepted media types include: {}", accepted.join(", "))]
    UnsupportedMediaType {
        /// What would have been read.
        accepted: Vec<&'static str>,
    },
    /// 400: the content type is known and the body does not follow it.
    #[error("{0}")]
    Malformed(String),
}

/// Reads `body`. No content type means JSON; protobuf is read if the kind has a decoder for it.
pub fn decode(body: &[u8], content_type: Option<&str>, protobuf: Option<DecodeProtobuf>) -> Result<Decoded, DecodeError> {
    let media_type = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default().trim();
    match media_type {
        "" | "application/json" => json(body),
        "application/yaml" => yaml(body),
        other => {
            let mut accepted = vec!["application/json", "application/yaml"];
            if let Some(decoder) = protobuf {
                if other == crate::protobuf::MEDIA_TYPE {
                    let value = crate::protobuf::decode(body, decoder).map_err(DecodeError::Malformed)?;
                    return Ok(Decoded { value, problems: Vec::new() });
                }
                accepted.push(crate::protobuf::MEDIA_TYPE);
            }
            Err(DecodeError::UnsupportedMediaType { accepted })
        }
    }
}

/// Reads JSON.
pub fn json(body: &[u8]) -> Result<Decoded, DecodeError> {
    let value = serde_json::from_slice(body).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    Ok(Decoded { value, problems: Vec::new() })
}

/// Reads YAML: one document.
pub fn yaml(body: &[u8]) -> Result<Decoded, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    let value = serde_saphyr::from_str(text).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    Ok(Decoded { value, problems: Vec::new() })
}
