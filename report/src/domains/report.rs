//! Writes the tables of all zones.

use super::args::Args;
use super::store::Store;
use super::table::{self, TableOptions};
use crate::output::{self, complain};
use crate::time::Millis;
use crate::traffic::{Metric, Peak};

pub fn write(args: &Args, store: Store, range: (Millis, Millis)) -> anyhow::Result<()> {
    let zones = store.into_zones();
    let wanted = TableOptions {
        range,
        by: args.by,
        top: if args.top == 0 { usize::MAX } else { args.top },
        sort: args.sort,
        seconds: !args.cores,
        cores: !args.seconds,
        format: args.output.format,
        peak_second: zones
            .iter()
            .flat_map(|(_, domains)| domains)
            .any(|domain| domain.peak != Peak::default()),
        refused: zones
            .iter()
            .flat_map(|(_, domains)| domains)
            .any(|domain| domain.total[Metric::Refused] > 0),
    };
    if zones.iter().flat_map(|(_, domains)| domains).any(|domain| domain.name.is_none()) {
        complain(&format!(
            "there are more than {} domains: later ones are in the rest (--max-domains, --domain)",
            args.max_domains
        ));
    }
    table::write(&wanted, &zones, output::stdout(), &args.output.layout())?;
    Ok(())
}
