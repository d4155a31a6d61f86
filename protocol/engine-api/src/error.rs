//! The body of every failed request.

use crate::ApiVersion;
use crate::wire::encode;

api! {
    /// What a client gets with a status of 400 or above.
    ErrorResponse = "common.ErrorResponse" {
        message: String = "message";
    }
}

/// The bytes of an error body with `message`, newline included.
pub fn error_body(message: impl Into<String>) -> String {
    encode(&ErrorResponse { message: message.into() }, ApiVersion::MAX)
}
