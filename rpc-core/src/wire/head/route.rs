//! [`Route`]: the target of a call.

use bytes::Bytes;

use super::entry::Value;
use crate::{Code, MethodInfo, ServiceId, Status};

/// `service:version/method` as received. It may be any bytes; the route of a served method is UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route(Bytes);

impl Route {
    /// The longest route in bytes: a service, a slash, and a method as long as a service.
    pub const MAX_LEN: usize = 2 * ServiceId::MAX_LEN + 1;

    /// Returns the route of a method.
    pub fn of(method: &MethodInfo) -> Self {
        Self(method.route_bytes())
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the text, which is empty if the bytes are not UTF-8.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(super) fn from_wire(value: Value<'_>) -> Result<Self, Status> {
        if value.len() > Self::MAX_LEN {
            let message = format!("route is {} bytes, limit is {} (Route::MAX_LEN)", value.len(), Self::MAX_LEN);
            return Err(Status::new(Code::InvalidArgument, message));
        }
        Ok(Self(value.to_bytes()))
    }
}
