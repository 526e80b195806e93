//! Reading an object of the status document.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, Visitor};

/// An object of the document that is read member by member.
pub(super) trait Object: Default {
    /// Reads the value of a member; false if the object has no such member.
    fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<bool, M::Error>;
}

/// Reads an object. Unknown members are ignored, and missing members keep their default value.
pub(super) struct ReadObject<T>(PhantomData<T>);

impl<T> Default for ReadObject<T> {
    fn default() -> Self {
        ReadObject(PhantomData)
    }
}

impl<'de, T: Object> Visitor<'de> for ReadObject<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<T, M::Error> {
        let mut object = T::default();
        while let Some(name) = map.next_key::<String>()? {
            if !object.member(&name, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(object)
    }
}
