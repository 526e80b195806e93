//! The traffic log: its lines, and the numbers that are added up from them.

mod ends;
mod gaps;
mod hosts;
pub mod member;
mod places;
mod previous;
mod repeated;
mod series;
mod span;
mod twice;
mod usage;

pub use ends::Ends;
pub use formats::line::Line;
pub use gaps::Gaps;
pub use hosts::{Hosts, Seen};
pub use member::Member;
pub use previous::{LastTime, Latest};
pub use series::Series;
pub use span::Span;
pub use twice::{Duplicates, Rule, Twice};
pub use usage::{Metric, Peak, Usage, part};
