//! State that an upper layer keeps with a part of the configuration.

use core::any::Any;
use core::cell::OnceCell;

/// A value of a type that this layer does not know. It is made at the first access, and dropped with the
/// configuration.
#[derive(Default)]
pub struct Attached(OnceCell<Box<dyn Any>>);

impl Attached {
    /// The value. `None` if a value of another type is attached already.
    pub fn get<T: Any + Default>(&self) -> Option<&T> {
        self.0.get_or_init(|| Box::<T>::default()).downcast_ref()
    }
}
