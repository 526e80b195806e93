//! Sends requests over HTTP/1.1 at a constant rate, and prints how long the answers took, as a JSON object.
//!
//! A request is due at a time that the rate alone decides, whether or not earlier requests have been answered. Its
//! latency begins at that time, also where it is sent later because all connections wait for an answer. So a delay
//! counts for each request that it delays (no coordinated omission).
//!
//! The program never sleeps: a timer would wake it up to a millisecond late, and would send requests in bursts. It
//! needs a processor of its own. `lag_ns` tells how late it was itself.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod connection;
mod load;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::load::{Load, Outcome};

/// Requests at a constant rate, whether or not earlier ones have been answered.
#[derive(Parser)]
#[command(name = "open-loop")]
struct Arguments {
    /// Address and port of the server
    address: SocketAddr,
    /// Path of the requests
    path: String,
    /// Requests per second, over all connections
    #[arg(long)]
    rate: f64,
    /// Seconds during which requests are due
    #[arg(long)]
    seconds: f64,
    /// Connections, which are kept open
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("open-loop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Value> {
    let Arguments { address, path, rate, seconds, connections } = arguments;
    ensure!(rate.is_finite() && *rate > 0.0 && *rate <= 1e7, "--rate takes a number above 0, up to 10000000");
    ensure!(*seconds > 0.0 && *seconds <= 3600.0, "--seconds takes a number above 0, up to 3600");
    ensure!((1..=10_000).contains(connections), "--connections takes a number from 1 to 10000");
    let requests = (rate * seconds) as u64;
    ensure!(requests > 0, "no request is due within {seconds} s");
    let load = Load {
        address: *address,
        request: format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes(),
        interval: Duration::from_secs_f64(1.0 / rate),
        requests,
        connections: *connections,
    };
    Ok(report(&load.run()?))
}

fn report(outcome: &Outcome) -> Value {
    json!({
        "requests": outcome.latency.len(),
        "seconds": outcome.elapsed.as_secs_f64(),
        "late_seconds": outcome.late.as_secs_f64(),
        "latency_ns": quantiles(&outcome.latency),
        "lag_ns": quantiles(&outcome.lag),
    })
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    let mut values: Map<String, Value> = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)]
        .map(|(name, quantile)| (name.to_owned(), histogram.value_at_quantile(quantile).into()))
        .into_iter()
        .collect();
    values.insert("max".to_owned(), histogram.max().into());
    Value::Object(values)
}
