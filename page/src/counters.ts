// Generated from formats/src/table.rs by `RECORD_GENERATED=1 cargo test generated`.

import type { Limit, Signal, Tally } from "./model.ts";

/** An account in the status. Members that an older server may not have are optional. */
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
