//! The load: requests that are due at a constant rate, over connections that are kept open.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};

use crate::connection::Connection;

/// What the server may take after the last request was due.
const PATIENCE: Duration = Duration::from_secs(10);
const EVENTS: usize = 64;
const SIGNIFICANT_DIGITS: u8 = 3;

pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) request: Vec<u8>,
    /// Time from one request to the next.
    pub(crate) interval: Duration,
    pub(crate) requests: u64,
    pub(crate) connections: usize,
}

pub(crate) struct Outcome {
    /// Nanoseconds from the time at which a request was due to the end of its answer.
    pub(crate) latency: Histogram<u64>,
    /// Nanoseconds by which this program sent a request later than it could have: from the time at which it was due
    /// and a connection was free.
    pub(crate) lag: Histogram<u64>,
    /// Time during which a request that could have been sent was not sent.
    pub(crate) late: Duration,
    pub(crate) elapsed: Duration,
}

struct Client {
    connection: Connection,
    /// When its request was due, or, without one, since when it is free.
    since: Duration,
}

impl Load {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create1")?;
        let mut clients = Vec::with_capacity(self.connections);
        for number in 0..self.connections {
            let connection = Connection::open(self.address, &self.request)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&poll, connection.stream(), data, epoll::EventFlags::IN).context("epoll_ctl")?;
            clients.push(Client { connection, since: Duration::ZERO });
        }
        let mut outcome = Outcome {
            latency: histogram()?,
            lag: histogram()?,
            late: Duration::ZERO,
            elapsed: Duration::ZERO,
        };
        let mut free: VecDeque<usize> = (0..clients.len()).collect();
        let mut events = Vec::with_capacity(EVENTS);
        let begin = Instant::now();
        let (mut sent, mut last_sent) = (0, Duration::ZERO);
        while outcome.latency.len() < self.requests {
            let now = begin.elapsed();
            let due = self.due(sent);
            if sent < self.requests
                && due <= now
                && let Some(number) = free.pop_front()
            {
                let client = clients.get_mut(number).context("there is no such connection")?;
                let possible = due.max(client.since);
                outcome.lag.record(nanoseconds(now.saturating_sub(possible)))?;
                outcome.late += now.saturating_sub(possible.max(last_sent));
                last_sent = now;
                client.since = due;
                client.connection.send(&self.request)?;
                sent += 1;
            }
            ensure!(
                now < self.due(self.requests) + PATIENCE,
                "{} requests are not answered",
                self.requests - outcome.latency.len()
            );
            events.clear();
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&Timespec::default()))
                .context("epoll_wait")?;
            for event in &events {
                let number = usize::try_from(event.data.u64())?;
                let client = clients.get_mut(number).context("there is no such connection")?;
                if client.connection.receive()? {
                    let now = begin.elapsed();
                    outcome.latency.record(nanoseconds(now.saturating_sub(client.since)))?;
                    client.since = now;
                    free.push_back(number);
                }
            }
        }
        outcome.elapsed = begin.elapsed();
        Ok(outcome)
    }

    /// When a request is due, from the first one on.
    fn due(&self, number: u64) -> Duration {
        Duration::from_nanos((self.interval.as_secs_f64() * 1e9 * number as f64) as u64)
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new(SIGNIFICANT_DIGITS).context("a histogram was not made")
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
