// What the status tells, as figures over time. Nothing in here knows of the page.
//
// Counters only grow, so every rate is a difference between two answers over the time between them, both of which the
// server says: `time` is when it made the answer. Where a difference would be none (the first answer, a pause, counters
// that begin anew), there is no figure, rather than a wrong one.

import type { Account } from "./counters.ts";

export type { Account } from "./counters.ts";

/** The status as JSON, as far as it is used. */
export interface Status {
  version: string;
  nginx_version: string;
  time: string;
  clock: string;
  workers: WorkerBooks[];
  zones: Record<string, ZoneStatus>;
}

export interface WorkerBooks {
  worker: number;
  pid: number;
  thread_cpu_ns: number;
  charged_ns: number;
  /** a server that was upgraded just now may not tell it */
  uncounted_ns?: number;
  no_request_ns: number;
  loop_ns: number;
  other_ns: number;
  pool_threads_cpu_ns: number;
}

export interface ZoneStatus {
  size_bytes: number;
  used_bytes: number;
  capacity: number;
  accounts: number;
  overflowed: number;
  cut?: number;
  keys: Record<string, Account>;
}

/** Averages over a window, for autoscalers. */
export interface Signal {
  in_flight: number;
  requests_per_second: number;
  cores: number;
}

/** As of the last check, and what all limits on the account have refused. */
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

export interface Tally {
  requests: number;
  cpu_ns: number;
}

/** The key of the account that has what found no room. */
export const OVERFLOW = "*";

/** Where a worker's CPU goes, in the order in which it is drawn, from below. */
export const OWNERS = ["charged", "no_request", "loop", "other"] as const;
export type Owner = (typeof OWNERS)[number];

/** Of one worker, between two answers; in cores. */
export interface WorkerRate {
  worker: number;
  pid: number;
  cores: Record<Owner, number>;
  all: number;
  /** the part of what was charged that is in no account */
  uncounted: number;
  poolThreads: number;
}

/** How many keys of each moment are remembered by name; what is below them is drawn as others. */
const REMEMBERED_KEYS = 32;
/** How much is remembered, in moments. */
const REMEMBERED_MOMENTS = 900;
/** Answers that come sooner after each other are not compared: so little time is measured badly. */
const LEAST_MS = 250;
/** Two clocks, of the server and of the browser, may go so differently before one of them was set. */
const CLOCKS_MAY_DIFFER_MS = 5000;

/** Limits of all accounts of a zone, one column for each figure; NaN where an account has none. */
export class Limits {
  readonly cores: Float64Array;
  readonly debtNs: Float64Array;
  readonly refused: Float64Array;
  readonly dryRun: Float64Array;
  /** CPU that limits do not count: that of refused requests */
  readonly apartNs: Float64Array;

  constructor(n: number) {
    const none = () => new Float64Array(n).fill(NaN);
    this.cores = none();
    this.debtNs = none();
    this.refused = none();
    this.dryRun = none();
    this.apartNs = none();
  }

  set(i: number, limit: Limit): void {
    this.cores[i] = limit.cores;
    this.debtNs[i] = limit.debt_ns;
    this.refused[i] = limit.refused;
    this.dryRun[i] = limit.refused_dry_run;
    this.apartNs[i] = limit.refused_cpu_ns + limit.refused_dry_run_cpu_ns;
  }
}

/** Counters of all accounts of a zone, one column for each. */
export class Columns {
  readonly cpuNs: Float64Array;
  readonly requests: Float64Array;
  readonly sentBytes: Float64Array;
  readonly inFlight: Float64Array;
  /** null: no account has one */
  limits: Limits | null = null;

  constructor(readonly keys: string[]) {
    const n = keys.length;
    this.cpuNs = new Float64Array(n);
    this.requests = new Float64Array(n);
    this.sentBytes = new Float64Array(n);
    this.inFlight = new Float64Array(n);
  }

  /** Where the keys are those that were there before, they are the same array. */
  static of(accounts: Record<string, Account>, before: Columns): Columns {
    const keys = Object.keys(accounts);
    const same = keys.length === before.keys.length && keys.every((key, i) => key === before.keys[i]);
    const columns = new Columns(same ? before.keys : keys);
    columns.keys.forEach((key, i) => {
      const account = accounts[key]!;
      columns.cpuNs[i] = account.cpu_ns;
      columns.requests[i] = account.requests;
      columns.sentBytes[i] = account.sent_bytes;
      columns.inFlight[i] = account.in_flight;
      if (account.limit) (columns.limits ??= new Limits(columns.keys.length)).set(i, account.limit);
    });
    return columns;
  }

  /** Where each key of this was before: its place there, or -1. */
  placesIn(before: Columns): Int32Array {
    const places = new Int32Array(this.keys.length);
    let index: Map<string, number> | undefined;
    for (let i = 0; i < places.length; i++) {
      // accounts are told in the order of their slots, which they keep
      if (!index && this.keys[i] !== before.keys[i]) {
        index = new Map(before.keys.map((key, place) => [key, place]));
      }
      places[i] = index ? index.get(this.keys[i]!) ?? -1 : i;
    }
    return places;
  }
}

/** What one account has used per second. */
export interface Rates {
  seconds: number;
  cores: Float64Array;
  requests: Float64Array;
  bytes: Float64Array;
  /** null: no account has a limit */
  limits: LimitRates | null;
}

/** What limits have done per second; NaN where an account has none, or had none before. */
export interface LimitRates {
  /** cores that limits count */
  used: Float64Array;
  refused: Float64Array;
  dryRun: Float64Array;
}

export interface Moment {
  /** in seconds since 1970 */
  time: number;
  /** cores of the largest keys; null: there was no answer, or nothing to compare it with */
  cores: Map<string, number> | null;
  /** of all keys */
  all: number;
}

/** A zone over time. */
export class Zone {
  status!: Omit<ZoneStatus, "keys">;
  totals = new Columns([]);
  /** null while there is nothing to compare with */
  rates: Rates | null = null;
  history: Moment[] = [];
  private timeMs = NaN;

  /** Takes an answer; whether the counters have begun anew. */
  feed(status: ZoneStatus, timeMs: number, isContinued: boolean, watched: string | null): boolean {
    const { keys, ...rest } = status;
    const before = this.totals;
    const now = Columns.of(keys, before);
    const places = now.placesIn(before);
    const restarted = !Number.isNaN(this.timeMs) && hasFallen(now, before, places);
    const hadTime = this.timeMs;
    this.status = rest;
    this.totals = now;
    this.timeMs = timeMs;
    if (restarted) this.history = [];
    const ns = (timeMs - hadTime) * 1e6;
    if (!isContinued || restarted || !(ns > 0)) {
      this.rates = null;
      this.remember({ time: timeMs / 1000, cores: null, all: NaN });
      return restarted;
    }
    const n = now.keys.length;
    const rates: Rates = {
      seconds: ns / 1e9,
      cores: new Float64Array(n),
      requests: new Float64Array(n),
      bytes: new Float64Array(n),
      limits: limitRates(now, before, places, ns),
    };
    let all = 0;
    for (let i = 0; i < n; i++) {
      const place = places[i]!;
      // an account that was not there began with zero
      const had = (column: Float64Array) => (place < 0 ? 0 : column[place]!);
      rates.cores[i] = (now.cpuNs[i]! - had(before.cpuNs)) / ns;
      rates.requests[i] = (now.requests[i]! - had(before.requests)) / rates.seconds;
      rates.bytes[i] = (now.sentBytes[i]! - had(before.sentBytes)) / rates.seconds;
      all += rates.cores[i]!;
    }
    this.rates = rates;
    this.remember({ time: timeMs / 1000, cores: largest(now.keys, rates.cores, watched), all });
    return false;
  }

  /** Nothing is known for a while; the last rates stay until there are others. */
  interrupt(): void {
    const last = this.history.at(-1);
    if (last?.cores) this.remember({ time: last.time + 0.001, cores: null, all: NaN });
  }

  /** The keys that used most over all that is remembered. */
  top(n: number): string[] {
    const sums = new Map<string, number>();
    for (const { cores } of this.history) {
      cores?.forEach((value, key) => sums.set(key, (sums.get(key) ?? 0) + value));
    }
    return [...sums].filter(([, sum]) => sum > 0).sort((a, b) => b[1] - a[1]).slice(0, n).map(([key]) => key);
  }

  private remember(moment: Moment): void {
    this.history.push(moment);
    if (this.history.length > REMEMBERED_MOMENTS) this.history.shift();
  }
}

function limitRates(now: Columns, before: Columns, places: Int32Array, ns: number): LimitRates | null {
  const { limits } = now;
  if (!limits) return null;
  const rate = (of: (columns: Columns, place: number) => number, scale: number) =>
    Float64Array.from(places, (place, i) => {
      // an account that was not there began with zero; what one without a limit has been refused is not known
      const had = place < 0 ? 0 : before.limits ? of(before, place) : NaN;
      return ((of(now, i) - had) * scale) / ns;
    });
  return {
    used: rate(({ cpuNs, limits }, i) => cpuNs[i]! - limits!.apartNs[i]!, 1),
    refused: rate(({ limits }, i) => limits!.refused[i]!, 1e9),
    dryRun: rate(({ limits }, i) => limits!.dryRun[i]!, 1e9),
  };
}

/** Whether a counter is less than it was, or an account is gone: accounts stay as long as their zone. */
function hasFallen(now: Columns, before: Columns, places: Int32Array): boolean {
  let known = 0;
  for (let i = 0; i < places.length; i++) {
    const place = places[i]!;
    if (place < 0) continue;
    known++;
    if (
      now.cpuNs[i]! < before.cpuNs[place]! ||
      now.requests[i]! < before.requests[place]! ||
      now.sentBytes[i]! < before.sentBytes[place]!
    ) {
      return true;
    }
  }
  return known < before.keys.length;
}

/** The keys with the largest values that are not zero, and the one that somebody watches. */
function largest(keys: string[], values: Float64Array, watched: string | null): Map<string, number> {
  const best: number[] = [];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value <= 0 || (best.length === REMEMBERED_KEYS && value <= values[best.at(-1)!]!)) continue;
    let at = best.length;
    while (at > 0 && values[best[at - 1]!]! < value) at--;
    best.splice(at, 0, i);
    if (best.length > REMEMBERED_KEYS) best.pop();
  }
  const found = new Map(best.map((i) => [keys[i]!, values[i]!]));
  if (watched !== null && !found.has(watched)) {
    const at = keys.indexOf(watched);
    if (at >= 0) found.set(watched, values[at]!);
  }
  return found;
}

/** What an answer was, compared with the one before. */
export interface News {
  /** a counter fell: all begins anew */
  restarted: boolean;
  /** other workers than before, and counters that went on */
  reloaded: boolean;
  /** the server's clock was set, or the browser's */
  clockSet: boolean;
}

export interface BooksMoment {
  time: number;
  cores: Record<Owner, number> | null;
}

/** All that was answered. */
export class Model {
  zones = new Map<string, Zone>();
  workers: WorkerRate[] | null = null;
  /** how many workers there are, with rates or without */
  workerCount = 0;
  history: BooksMoment[] = [];
  last: { timeMs: number; version: string; nginxVersion: string; clock: string } | null = null;
  private books = new Map<number, WorkerBooks>();
  private atBrowserMs = 0;
  private interrupted = true;

  /**
   * Takes an answer that was asked for at a time of the browser's monotonic clock and took some time. `isWhole`: it has all
   * zones, and those that are missing are gone. `watched`: a key that is remembered even if it uses little.
   */
  feed(status: Status, askedMs: number, tookMs: number, isWhole: boolean, watched: string | null): News {
    const timeMs = Date.parse(status.time);
    const news = { restarted: false, reloaded: false, clockSet: false };
    const passed = timeMs - (this.last?.timeMs ?? NaN);
    const isKnown = Object.keys(status.zones).every((name) => this.zones.has(name));
    if (!this.interrupted && isKnown && passed >= 0 && passed < LEAST_MS) return news;
    const differ = Math.abs(passed - (askedMs - this.atBrowserMs));
    news.clockSet = passed < 0 || (!this.interrupted && differ > CLOCKS_MAY_DIFFER_MS + tookMs);
    let isContinued = !this.interrupted && !news.clockSet && passed > 0;

    for (const [name, zone] of Object.entries(status.zones)) {
      let known = this.zones.get(name);
      if (!known) this.zones.set(name, (known = new Zone()));
      news.restarted = known.feed(zone, timeMs, isContinued, watched) || news.restarted;
    }
    if (isWhole) {
      for (const name of this.zones.keys()) if (!Object.hasOwn(status.zones, name)) this.zones.delete(name);
    }
    if (news.restarted) isContinued = false;
    news.reloaded = this.feedWorkers(status.workers, timeMs, passed, isContinued) && !news.restarted;

    const { version, nginx_version: nginxVersion, clock } = status;
    this.last = { timeMs, version, nginxVersion, clock };
    this.atBrowserMs = askedMs;
    this.interrupted = false;
    return news;
  }

  /** Answers stop, or are not asked for: what comes next is not compared with what was. */
  interrupt(): void {
    if (this.interrupted) return;
    this.interrupted = true;
    for (const zone of this.zones.values()) zone.interrupt();
    const last = this.history.at(-1);
    if (last?.cores) this.history.push({ time: last.time + 0.001, cores: null });
  }

  private feedWorkers(workers: WorkerBooks[], timeMs: number, passedMs: number, isContinued: boolean): boolean {
    const before = this.books;
    const isOther = before.size > 0 && workers.some(({ pid }) => !before.has(pid));
    this.books = new Map(workers.map((worker) => [worker.pid, worker]));
    this.workerCount = workers.length;
    // a process number that came again
    const fell = workers.some((w) => w.thread_cpu_ns < (before.get(w.pid)?.thread_cpu_ns ?? 0));
    const time = timeMs / 1000;
    if (!isContinued || fell) {
      this.workers = null;
      this.push({ time, cores: null });
      return isOther;
    }
    const ns = passedMs * 1e6;
    const all = zeros();
    this.workers = workers.map((now) => {
      const had = before.get(now.pid);
      const cores = zeros();
      for (const owner of OWNERS) {
        cores[owner] = (now[`${owner}_ns`] - (had?.[`${owner}_ns`] ?? 0)) / ns;
        all[owner] += cores[owner];
      }
      return {
        worker: now.worker,
        pid: now.pid,
        cores,
        all: OWNERS.reduce((sum, owner) => sum + cores[owner], 0),
        uncounted: ((now.uncounted_ns ?? 0) - (had?.uncounted_ns ?? 0)) / ns,
        poolThreads: (now.pool_threads_cpu_ns - (had?.pool_threads_cpu_ns ?? 0)) / ns,
      };
    });
    this.push({ time, cores: all });
    return isOther;
  }

  private push(moment: BooksMoment): void {
    this.history.push(moment);
    if (this.history.length > REMEMBERED_MOMENTS) this.history.shift();
  }
}

function zeros(): Record<Owner, number> {
  return { charged: 0, no_request: 0, loop: 0, other: 0 };
}

/** One bar of a histogram: requests that took up to so many nanoseconds; Infinity: more than all bounds. */
export interface Bucket {
  le: number;
  requests: number;
}

/** The bars of `by_request_cpu`, which is cumulative; see accounting/src/render/json.rs for what it leaves out. */
export function buckets(account: Account): Bucket[] {
  const bars: Bucket[] = [];
  let below = 0;
  for (const { le_ns, requests } of account.by_request_cpu ?? []) {
    bars.push({ le: le_ns, requests: requests - below });
    below = requests;
  }
  if (account.requests > below) bars.push({ le: Infinity, requests: account.requests - below });
  return bars;
}
