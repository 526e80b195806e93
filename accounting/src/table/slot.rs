//! Slots: the places of accounts in their table.

/// The place of an account in its table. A slot stays valid as long as its table, and has no meaning in another
/// table.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub(crate) u32);

impl Slot {
    /// The slot of the overflow account.
    pub const OVERFLOW: Slot = Slot(0);

    /// The slot as a number, at most the capacity.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
