// Turns status documents into figures over time. This file knows nothing of the page.
//
// Counters only grow. A rate is the difference of two answers, divided by the time between them. Both come from the
// server: `time` is the time of the answer. After the first answer, a pause or a restart of the counters there is no
// previous answer, so there is no figure rather than a wrong one.

import type { Account, Limit, Status, WorkerTotals, ZoneStatus } from "./status.ts";

export type { Account, Limit, Signal, Status, Tally, WorkerTotals, ZoneStatus } from "./status.ts";

/** The key of the overflow account. */
export const OVERFLOW = "*";

/** Owners of a worker's CPU, in drawing order from below. */
export const OWNERS = ["charged", "no_request", "loop", "other"] as const;
export type Owner = (typeof OWNERS)[number];

/** One worker between two answers; in cores. */
export interface WorkerRate {
  worker: number;
  pid: number;
  cores: Record<Owner, number>;
  all: number;
  /** the part of charged CPU that is in no account */
  uncounted: number;
  poolThreads: number;
}

/** Number of keys kept by name for each time. All smaller keys are drawn as one. */
const REMEMBERED_KEYS = 32;
/** Number of times kept. */
const REMEMBERED_MOMENTS = 900;
/** Answers closer together are not compared: the rate of such a short time is inaccurate. */
const LEAST_MS = 250;
/** A larger difference between the server's and the browser's clock means that one of them was set. */
const CLOCKS_MAY_DIFFER_MS = 5000;

/** Limits of all accounts of a zone, one column per figure; NaN for an account without a limit. */
export class Limits {
  readonly cores: Float64Array;
  readonly debtNs: Float64Array;
  readonly refused: Float64Array;
  readonly dryRun: Float64Array;
  /** CPU of refused requests, which limits do not count */
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

/** Counters of all accounts of a zone, one column per counter. */
export class Columns {
  readonly cpuNs: Float64Array;
  readonly requests: Float64Array;
  readonly sentBytes: Float64Array;
  readonly inFlight: Float64Array;
  /** null: no account has a limit */
  limits: Limits | null = null;

  constructor(readonly keys: string[]) {
    const n = keys.length;
    this.cpuNs = new Float64Array(n);
    this.requests = new Float64Array(n);
    this.sentBytes = new Float64Array(n);
    this.inFlight = new Float64Array(n);
  }

  /** The same array as before if the keys have not changed. */
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

  /** For each key its index in the previous answer, or -1. */
  placesIn(before: Columns): Int32Array {
    const places = new Int32Array(this.keys.length);
    let index: Map<string, number> | undefined;
    for (let i = 0; i < places.length; i++) {
      // accounts come in the order of their slots, which do not change
      if (!index && this.keys[i] !== before.keys[i]) {
        index = new Map(before.keys.map((key, place) => [key, place]));
      }
      places[i] = index ? index.get(this.keys[i]!) ?? -1 : i;
    }
    return places;
  }
}

/** Rates of all accounts, per second. */
export interface Rates {
  seconds: number;
  cores: Float64Array;
  requests: Float64Array;
  bytes: Float64Array;
  /** null: no account has a limit */
  limits: LimitRates | null;
}

/** Rates of limits, per second; NaN for an account that has no limit, or had none in the previous answer. */
export interface LimitRates {
  /** cores counted by limits */
  used: Float64Array;
  refused: Float64Array;
  dryRun: Float64Array;
}

export interface Moment {
  /** in seconds since 1970 */
  time: number;
  /** cores of the largest keys; null without an answer, or without a previous answer */
  cores: Map<string, number> | null;
  /** sum of all keys */
  all: number;
}

/** A zone over time. */
export class Zone {
  status!: Omit<ZoneStatus, "keys">;
  totals = new Columns([]);
  /** null until there are two answers */
  rates: Rates | null = null;
  history: Moment[] = [];
  private timeMs = NaN;

  /** Adds an answer. Returns whether the counters have restarted. */
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
      // a new account starts at zero
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

  /** Marks a gap. The last rates stay until there are new ones. */
  interrupt(): void {
    const last = this.history.at(-1);
    if (last?.cores) this.remember({ time: last.time + 0.001, cores: null, all: NaN });
  }

  /** The keys with the most CPU over all kept times. */
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
      // a new account starts at zero; refusals of an account without a limit are not known
      const had = place < 0 ? 0 : before.limits ? of(before, place) : NaN;
      return ((of(now, i) - had) * scale) / ns;
    });
  return {
    used: rate(({ cpuNs, limits }, i) => cpuNs[i]! - limits!.apartNs[i]!, 1),
    refused: rate(({ limits }, i) => limits!.refused[i]!, 1e9),
    dryRun: rate(({ limits }, i) => limits!.dryRun[i]!, 1e9),
  };
}

/** Whether a counter fell or an account is gone. Both mean a new zone, since accounts live as long as their zone. */
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

/** The keys with the largest values above zero, and the selected key. */
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

/** The difference between an answer and the previous one. */
export interface News {
  /** a counter fell: all figures restart */
  restarted: boolean;
  /** other workers than before, and the counters continue */
  reloaded: boolean;
  /** the server's or the browser's clock was set */
  clockSet: boolean;
}

export interface BooksMoment {
  time: number;
  cores: Record<Owner, number> | null;
}

/** All answers. */
export class Model {
  zones = new Map<string, Zone>();
  workers: WorkerRate[] | null = null;
  /** number of workers, with or without rates */
  workerCount = 0;
  history: BooksMoment[] = [];
  last: { timeMs: number; version: string; nginxVersion: string; clock: string } | null = null;
  private books = new Map<number, WorkerTotals>();
  private atBrowserMs = 0;
  private interrupted = true;

  /**
   * Adds an answer. `askedMs` is the time of the request on the browser's monotonic clock, `tookMs` its duration.
   * `isWhole`: the answer has all zones, so that missing zones are gone. `watched`: a key that is kept even if it
   * uses little.
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

  /** Answers stop, or the page is paused: the next answer is not compared with the last one. */
  interrupt(): void {
    if (this.interrupted) return;
    this.interrupted = true;
    for (const zone of this.zones.values()) zone.interrupt();
    const last = this.history.at(-1);
    if (last?.cores) this.history.push({ time: last.time + 0.001, cores: null });
  }

  private feedWorkers(workers: WorkerTotals[], timeMs: number, passedMs: number, isContinued: boolean): boolean {
    const before = this.books;
    const isOther = before.size > 0 && workers.some(({ pid }) => !before.has(pid));
    this.books = new Map(workers.map((worker) => [worker.pid, worker]));
    this.workerCount = workers.length;
    // the process id was used again
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

/** One bar of the histogram: requests with at most `le` nanoseconds; Infinity: above all bounds. */
export interface Bucket {
  le: number;
  requests: number;
}

/** The bars of `by_request_cpu`, which is cumulative. accounting/src/render/json.rs leaves some bounds out. */
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
