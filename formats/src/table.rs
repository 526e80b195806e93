//! The table of counters, with one declaration for each counter of an account.
//!
//! A declaration has a name, the place of the counter in the account's memory, and a description. `[added]` gives the
//! counter a place behind all others. The counters of the first release name their places. `[]` means no memory: the
//! figure is computed from other counters. To add a counter, add one declaration at the end, and count it with
//! `Account::add_to`. Every reader then shows it.

/// Calls a macro with the whole table.
#[cfg(not(feature = "example-counter"))]
#[macro_export]
macro_rules! each_counter {
    ($call:ident) => {
        $crate::counter_table! { $call {} }
    };
}

/// Calls a macro with the whole table and an additional counter, which proves that a counter needs only a declaration.
#[cfg(feature = "example-counter")]
#[macro_export]
macro_rules! each_counter {
    ($call:ident) => {
        $crate::counter_table! { $call {
            example_ns [added] = Counter::number("example_ns", Unit::Nanoseconds, "CPU time of an example.")
                .family("example_seconds_total").log_if_not_zero();
        } }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! counter_table {
    ($call:ident { $($more:tt)* }) => {
        $call! {
            requests [] = Counter::figure("requests", Unit::Requests, Figure::Requests, "Requests that ended.");

            responses [responses] = Counter::classes(
                "responses", Unit::Requests, &classes::RESPONSES,
                "Requests that ended, by class of the response; other: without a status.",
            ).family_by("requests_total", "class").log_classes(&["2xx", "4xx", "5xx"]);

            cpu_ns [cpu_ns] = Counter::number("cpu_ns", Unit::Nanoseconds, "CPU time charged to the key.")
                .family("seconds_total").log();

            wakeups [wakeups] = Counter::number(
                "wakeups", Unit::Calls, "Calls of event handlers on behalf of the key's requests.",
            ).family("wakeups_total").log();

            sent_bytes [sent_bytes] = Counter::number("sent_bytes", Unit::Bytes, "Bytes sent to clients.")
                .family("sent_bytes_total").log();

            received_bytes [received_bytes] = Counter::number(
                "received_bytes", Unit::Bytes, "Bytes received from clients.",
            ).family("received_bytes_total").log();

            in_flight [] = Counter::figure(
                "in_flight", Unit::Requests, Figure::InFlight, "Requests that are open.",
            ).gauge("in_flight");

            cores [] = Counter::figure(
                "cores", Unit::Cores, Figure::Cores, "CPU cores over the last 10 seconds, minute and five minutes.",
            );

            cpu_seconds_per_gb [] = Counter::figure(
                "cpu_seconds_per_gb", Unit::SecondsPerGigabyte, Figure::CpuPerGigabyte,
                "CPU seconds per 10^9 bytes sent; 0 if nothing was sent.",
            );

            cpu_ns_per_request [] = Counter::figure(
                "cpu_ns_per_request", Unit::Nanoseconds, Figure::CpuPerRequest, "CPU time per request that ended.",
            );

            duration_ms [billing.duration_ns] = Counter::number(
                "duration_ms", Unit::Milliseconds, "Time that requests were in flight, each for itself.",
            ).stored_as("duration_ns", 1_000_000).family("duration_seconds_total").log();

            active_ms [billing.active_ms] = Counter::number(
                "active_ms", Unit::Milliseconds, "Time in which at least one request was in flight.",
            ).family("active_interval_seconds_total").log();

            active_seconds [billing.active_seconds] = Counter::number(
                "active_seconds", Unit::Seconds, "Seconds whose CPU time reached the threshold of the zone.",
            ).family("active_seconds_total").log();

            billable_cpu_ns [billing.billable_cpu_ns] = Counter::number(
                "billable_cpu_ns", Unit::Nanoseconds, "CPU time of seconds whose CPU time reached the threshold.",
            ).family("billable_seconds_total").log();

            waived_cpu_ns [billing.waived_cpu_ns] = Counter::number(
                "waived_cpu_ns", Unit::Nanoseconds, "CPU time of seconds whose CPU time was below the threshold.",
            ).family("waived_seconds_total").log();

            memory_byte_ms [billing.memory_byte_ms] = Counter::number(
                "memory_byte_ms", Unit::ByteMilliseconds, "Memory of requests times the time that they held it.",
            ).family("memory_byte_seconds_total").log();

            gb_seconds [] = Counter::figure(
                "gb_seconds", Unit::GigabyteSeconds, Figure::GigabyteSeconds,
                "`memory_byte_ms` in gigabytes times seconds.",
            );

            peak_cores [] = Counter::figure(
                "peak_cores", Unit::Cores, Figure::Peak, "The most CPU time of one second since the account began.",
            ).gauge("peak_cores").log_peak("peak_cpu_ns");

            limit [refused] = Counter::refusals(
                "limit", &classes::REFUSALS, "The limit that was checked last, and what limits have refused.",
            )
            .gauge_of("limit_cores", Sample::LimitRate, "CPU cores that the key is limited to, as of its last request.")
            .gauge_of(
                "limit_debt_seconds", Sample::LimitDebt,
                "CPU time beyond the limit and its burst; requests are refused until it is paid.",
            )
            .family_of(
                "limit_refused_requests_total", Sample::Refused(Of::Requests),
                "Requests that limits have refused; dry_run: would have.",
            )
            .family_of(
                "limit_refused_seconds_total", Sample::Refused(Of::Cpu),
                "CPU time of requests that limits have refused; dry_run: would have.",
            )
            .log_first("refused");

            limits [] = Counter::figure(
                "limits", Unit::Limits, Figure::Limits, "All limits of the key, if it has several.",
            );

            windows [] = Counter::figure(
                "windows", Unit::Averages, Figure::Windows, "Averages over windows, for autoscalers.",
            ).full()
            .gauge_of(
                "window_in_flight", Sample::Window(Signal::InFlight), "Requests in flight, the average over a window.",
            )
            .gauge_of(
                "window_requests_per_second", Sample::Window(Signal::Requests),
                "Requests that ended per second, over a window.",
            )
            .gauge_of("window_cores", Sample::Window(Signal::Cores), "CPU time per second, over a window.");

            by_cache_status [by_cache] = Counter::tallies(
                "by_cache_status", "requests", &classes::CACHE_STATUSES,
                "Requests that ended and their CPU time, by cache status.",
            )
            .family_of(
                "cache_seconds_total", Sample::Tally("status", Of::Cpu),
                "CPU time of requests that ended, by cache status.",
            )
            .family_of(
                "cache_requests_total", Sample::Tally("status", Of::Requests), "Requests that ended, by cache status.",
            );

            by_connection_order [by_order] = Counter::tallies(
                "by_connection_order", "requests", &classes::ORDERS,
                "Requests that ended and their CPU time, by their order in the connection.",
            )
            .family_of(
                "order_seconds_total", Sample::Tally("order", Of::Cpu),
                "CPU time of requests that ended, by their order in the connection.",
            )
            .family_of(
                "order_requests_total", Sample::Tally("order", Of::Requests),
                "Requests that ended, by their order in the connection.",
            );

            by_response_size [by_size] = Counter::tallies(
                "by_response_size", "requests", &classes::SIZES,
                "Requests that ended and their CPU time, by upper bound of the bytes sent.",
            )
            .family_of(
                "size_seconds_total", Sample::Tally("size", Of::Cpu),
                "CPU time of requests that ended, by upper bound of the bytes sent.",
            )
            .family_of(
                "size_requests_total", Sample::Tally("size", Of::Requests),
                "Requests that ended, by upper bound of the bytes sent.",
            );

            tls_handshakes [by_session] = Counter::tallies(
                "tls_handshakes", "handshakes", &classes::SESSIONS,
                "TLS handshakes and the CPU time of their connections until then, by kind of session.",
            )
            .family_of(
                "tls_handshake_seconds_total", Sample::Tally("session", Of::Cpu),
                "CPU time of TLS connections until their handshakes were over, by kind of session.",
            )
            .family_of(
                "tls_handshakes_total", Sample::Tally("session", Of::Requests), "TLS handshakes, by kind of session.",
            );

            by_request_cpu [by_cpu] = Counter::histogram(
                "by_request_cpu", "CPU time per request, of requests that ended.",
            ).histogram_family("per_request_seconds");

            $($more)*
        }
    };
}
