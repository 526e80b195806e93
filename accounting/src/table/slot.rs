//! The place of an account in its table.

/// The place of an account in its table. Slots stay valid as long as the table, and mean nothing in another one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub(crate) u32);

impl Slot {
    /// The overflow account's.
    pub const OVERFLOW: Slot = Slot(0);

    /// The slot as a number, at most the capacity.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
