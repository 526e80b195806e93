// Generated from formats/ by `RECORD_GENERATED=1 cargo test generated`.
//
// Members that an older server may not have are optional.

/** The status document. */
export interface Status {
  /** Version of the module. */
  version: string;
  /** Version of NGINX, such as 1.28.3. */
  nginx_version: string;
  /** Time of the answer in UTC, such as 2026-01-31T12:00:00.000Z. */
  time: string;
  /** Name of the clock that laps are read from. */
  clock: string;
  /** Largest error of a lap. */
  max_error_ns: number;
  workers: WorkerTotals[];
  zones: Record<string, ZoneStatus>;
}

/** A worker and its totals. */
export interface WorkerTotals {
  /** Number of the worker. */
  worker: number;
  /** Number of its process. */
  pid: number;
  /** Calls of event handlers by the event loop. */
  wakeups: number;
  /** CPU time of the worker: charged, no request, loop and other. */
  thread_cpu_ns: number;
  /** CPU time charged to requests and accounts. */
  charged_ns: number;
  /** CPU time charged to requests that is in no account. */
  uncounted_ns?: number;
  /** CPU time of connections that never sent a request. */
  no_request_ns: number;
  /** CPU time of the event loop itself. */
  loop_ns: number;
  /** CPU time without an owner. */
  other_ns: number;
  /** CPU time of the worker's other threads. */
  pool_threads_cpu_ns: number;
  /** The part of it that is charged to requests and accounts. */
  pool_threads_charged_ns?: number;
  /** CPU time of open connections that have sent no request yet. */
  pending_ns?: number;
  /** Readings of the clock. */
  clock_readings?: number;
}

/** A zone and its accounts. */
export interface ZoneStatus {
  /** Size of the zone's shared memory. */
  size_bytes: number;
  /** Bytes in use. */
  used_bytes: number;
  /** Keys that the zone has room for. */
  capacity: number;
  /** Keys that have an account. */
  accounts: number;
  /** Requests whose key found no room in the zone. */
  overflowed: number;
  /** Requests whose key was cut. */
  cut?: number;
  keys: Record<string, Account>;
  windows?: Record<string, Signal>;
}

/** An account. */
export interface Account {
  /** Requests that ended. */
  requests: number;
  /** Requests that ended, by class of the response; other: without a status. */
  responses: Record<string, number>;
  /** CPU time charged to the key. */
  cpu_ns: number;
  /** Calls of event handlers on behalf of the key's requests. */
  wakeups: number;
  /** Bytes sent to clients. */
  sent_bytes: number;
  /** Bytes received from clients. */
  received_bytes: number;
  /** Requests that are open. */
  in_flight: number;
  /** CPU cores over the last 10 seconds, minute and five minutes. */
  cores: Record<string, number>;
  /** CPU seconds per 10^9 bytes sent; 0 if nothing was sent. */
  cpu_seconds_per_gb?: number;
  /** CPU time per request that ended. */
  cpu_ns_per_request?: number;
  /** Time that requests were in flight, each for itself. */
  duration_ms?: number;
  /** Time in which at least one request was in flight. */
  active_ms?: number;
  /** Seconds whose CPU time reached the threshold of the zone. */
  active_seconds?: number;
  /** CPU time of seconds whose CPU time reached the threshold. */
  billable_cpu_ns?: number;
  /** CPU time of seconds whose CPU time was below the threshold. */
  waived_cpu_ns?: number;
  /** Memory of requests times the time that they held it. */
  memory_byte_ms?: number;
  /** `memory_byte_ms` in gigabytes times seconds. */
  gb_seconds?: number;
  /** The most CPU time of one second since the account began. */
  peak_cores?: number;
  /** The limit that was checked last, and what limits have refused. */
  limit?: Limit;
  /** All limits of the key, if it has several. */
  limits?: Omit<Limit, `refused${string}`>[];
  /** Averages over windows, for autoscalers. */
  windows?: Record<string, Signal>;
  /** Requests that ended and their CPU time, by cache status. */
  by_cache_status?: Record<string, Tally>;
  /** Requests that ended and their CPU time, by their order in the connection. */
  by_connection_order?: Record<string, Tally>;
  /** Requests that ended and their CPU time, by upper bound of the bytes sent. */
  by_response_size?: Record<string, Tally>;
  /** TLS handshakes and the CPU time of their connections until then, by kind of session. */
  tls_handshakes?: Record<string, { handshakes: number; cpu_ns: number }>;
  /** CPU time per request, of requests that ended. */
  by_request_cpu?: { le_ns: number; requests: number }[];
}

/** Averages over a window, for autoscalers. */
export interface Signal {
  in_flight: number;
  requests_per_second: number;
  cores: number;
}

/** The limit at the latest check, and the requests refused by all limits of the account. */
export interface Limit {
  cores: number;
  burst_ns: number;
  debt_ns: number;
  refused: number;
  refused_dry_run: number;
  refused_cpu_ns: number;
  refused_dry_run_cpu_ns: number;
  max_debt_ns?: number;
}

/** Requests and their CPU time. */
export interface Tally {
  requests: number;
  cpu_ns: number;
}
