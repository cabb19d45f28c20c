//! Who asks. Everything that must know a person's name asks here.

use crate::error::{ApiError, ApiResult};

/// Longest name of who asks.
const NAME_LEN_MAX: usize = 100;

/// The operator who sent a request. The name is the one that is claimed in it.
pub(super) fn operator(claimed: &str) -> ApiResult<String> {
    let name = claimed.trim();
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Err(ApiError::invalid(format!("asked_by: 1 to {NAME_LEN_MAX} bytes saying who asks")));
    }
    Ok(name.to_owned())
}
