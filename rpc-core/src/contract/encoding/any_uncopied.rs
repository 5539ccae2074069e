//! [`Uncopied`]: transfers bytes without copying, for code that does not know the type of a value.

use std::any::Any;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::uncopied;

/// A `T` that is transferred without copying if it is `bytes::Bytes`.
///
/// The macro only sees the name `Bytes`, which may be another type.
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound(serialize = "T: Serialize + 'static", deserialize = "T: DeserializeOwned + 'static"))]
pub struct Uncopied<T>(#[serde(with = "super::any_uncopied")] pub T);

/// Serializes a value, and lends its bytes if it is `Bytes`.
///
/// # Errors
///
/// As the serialization of the value.
pub fn serialize<T: Serialize + 'static, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    match (value as &dyn Any).downcast_ref() {
        Some(bytes) => uncopied::serialize(bytes, serializer),
        None => value.serialize(serializer),
    }
}

/// Deserializes a value, which shares lent bytes if it is `Bytes`.
///
/// # Errors
///
/// As the deserialization of the value.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + 'static,
    D: Deserializer<'de>,
{
    let mut value = None::<T>;
    match (&mut value as &mut dyn Any).downcast_mut::<Option<Bytes>>() {
        Some(bytes) => *bytes = Some(uncopied::deserialize(deserializer)?),
        None => return T::deserialize(deserializer),
    }
    Ok(value.expect("`value` was set by the branch above"))
}
