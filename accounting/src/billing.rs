//! Billing metrics of an account, and signals for autoscalers.

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
