//! Lists to which directives add elements.

use core::cell::{Cell, OnceCell};

/// Elements that are added while directives are read. Once all directives have been read, the list is fixed.
pub struct List<T> {
    growing: Cell<Vec<T>>,
    fixed: OnceCell<Box<[T]>>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        List { growing: Cell::default(), fixed: OnceCell::new() }
    }
}

impl<T> List<T> {
    /// Adds an element, unless the list is fixed.
    pub fn push(&self, element: T) {
        let mut growing = self.growing.take();
        growing.push(element);
        self.growing.set(growing);
    }

    /// Calls `look` with the elements of a list that is not fixed yet. `look` must not use this list.
    pub fn look<R>(&self, look: impl FnOnce(&[T]) -> R) -> R {
        let growing = self.growing.take();
        let result = look(&growing);
        self.growing.set(growing);
        result
    }

    /// Fixes the list: no element is added any more.
    pub fn fix(&self) {
        self.fixed.get_or_init(|| self.growing.take().into());
    }

    /// The elements, once the list is fixed.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        self.fixed.get().map_or(&[], |elements| elements)
    }
}
