//! Reads usage from the counters of a fleet in Prometheus.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;
use formats::prometheus::family;

use super::book::{Book, Needs, Used};
use super::plan::Plan;
use super::source::{Read, SERVED, Source, blame};
use crate::input::progress;
use crate::prometheus::{self, Counter};
use crate::time::Millis;
use crate::traffic::Member;

/// Reads the accounts from the Prometheus at this address.
pub fn read(source: &Source, url: &str, plans: &[Plan]) -> anyhow::Result<Read> {
    let needs = Needs::of(plans);
    if needs.members.contains(&Member::Peak) {
        bail!(
            "{} is not in Prometheus: the gauge there is the peak since the account began. Use traffic \
             logs, or \"percentile_cores\"",
            blame(plans, Member::Peak)
        );
    }
    let (prometheus, (from, to)) = source.scrape.open(url, &source.range, source.duplicates)?;
    // CPU comes first: other counters are missing if an instance has CPU only
    let others = needs.members.iter().filter(|member| **member != Member::Cpu);
    let mut members: Vec<Member> = std::iter::once(Member::Cpu).chain(others.copied()).collect();
    let charged_for = members.len();
    // these counters prove that there were requests; without them, no fee is charged
    if plans.iter().any(Plan::has_fees) {
        let more = [Member::Requests, Member::Active];
        members.extend(more.iter().filter(|member| !needs.members.contains(member)));
    }
    let counters: Vec<Counter> = members.iter().filter_map(|member| counter(*member)).collect();
    let book = Book::new(needs, source.by, (Some(from), Some(to)), source.max_domains);
    let progress = progress::bar((to - from) as u64 / 1000, &source.input);
    let is_too_large = AtomicBool::new(false);
    let add = |at: usize, zone: &str, key: &str, time: (Millis, Millis), value: u128| {
        let mut used = Used::default();
        let member = *members.get(at)?;
        // no counter of the module grows by more in five minutes
        let Ok(value) = u64::try_from(value) else {
            is_too_large.store(true, Ordering::Relaxed);
            return None;
        };
        *used.get_mut(member as usize)? = value;
        book.add_zone(zone);
        let is_served = value > 0 && SERVED.contains(&member);
        book.add(key, time, &used, is_served);
        // the first point is the base, at the begin of the time
        Some((time.0.max(from), time.1)).filter(|(begin, end)| begin < end)
    };
    let done = |until| progress.set_position((until - from) as u64 / 1000);
    let found = prometheus.read(&counters, &add, &source.filter, (from, to), done);
    progress.finish_and_clear();
    let found = found?;
    if !prometheus.check(&source.filter, (from, to))? {
        return Ok(Read::Failed(ExitCode::from(2)));
    }
    if is_too_large.load(Ordering::Relaxed) {
        bail!(
            "a counter grew by 2^64 or more within five minutes, so there is no bill: choose series with \
             --match"
        );
    }
    book.check_zones().map_err(anyhow::Error::msg)?;
    found.report_twice(source.duplicates)?;
    found.report_gaps();
    if let Some(doubt) = &found.doubt {
        source.missing(doubt)?;
    }
    // a key without requests has no counter of them
    let lacks = |(member, at): (&Member, &Option<String>)| {
        let instance = at.clone().filter(|_| *member != Member::Requests)?;
        Some((*member, instance))
    };
    let missing = members.iter().zip(&found.missing).take(charged_for).find_map(lacks);
    if let Some((member, instance)) = missing {
        source.missing(&format!(
            "instance {instance} has no counter of \"{}\" for a part of the time, which {} charges for",
            member.name(),
            blame(plans, member)
        ))?;
    }
    found.report_span((from, to));
    let accounts = book.into_accounts((from, to)).map_err(anyhow::Error::msg)?;
    Ok(Read::Accounts(accounts, ExitCode::SUCCESS))
}

fn counter(member: Member) -> Option<Counter> {
    Some(match member {
        Member::Requests => prometheus::REQUESTS,
        Member::Cpu => prometheus::CPU,
        Member::Sent => prometheus::SENT,
        Member::Received => const { Counter::of(family("received_bytes_total"), 1.0) },
        Member::Duration => const { Counter::of(family("duration_seconds_total"), 1e3) },
        Member::Active => const { Counter::of(family("active_interval_seconds_total"), 1e3) },
        Member::ActiveSeconds => const { Counter::of(family("active_seconds_total"), 1.0) },
        Member::Billable => const { Counter::of(family("billable_seconds_total"), 1e9) },
        Member::Waived => const { Counter::of(family("waived_seconds_total"), 1e9) },
        Member::Memory => const { Counter::of(family("memory_byte_seconds_total"), 1e3) },
        Member::Peak => return None,
    })
}
