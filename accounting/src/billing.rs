//! What other ways to charge than by CPU need to know of an account, and what an autoscaler looks at.

mod active;
mod held;
mod signals;
mod sums;

pub use formats::status::Signal;
pub use held::{Held, Memory, Span};
pub use signals::{Signals, WINDOWS};
pub use sums::{BillingMetrics, LOGS, Sums};

#[cfg(test)]
use self::active::*;

#[cfg(test)]
mod tests;
