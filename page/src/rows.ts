// The rows of the table, and their order.

import type { Zone } from "./model.ts";

/** The columns after the key, by their names in the page's address. */
export const COLUMNS = ["cpu", "share", "lim", "use", "ref", "dry", "req", "cpr", "mb", "spg", "fly"] as const;
export type Column = (typeof COLUMNS)[number];
/** Columns shown only if an account has a limit. The last one is shown only if `dry_run` has counted a request. */
const OF_LIMITS: readonly Column[] = ["lim", "use", "ref", "dry"];
export type SortBy = Column | "key";

/** `now`: between the last two answers; `total`: since the counters began. */
export type Span = "now" | "total";

/** The figures of a zone's accounts: one value per key, NaN if there is none. */
export type Figures = Record<Column, Float64Array>;

/** The columns to show for a zone. */
export function columnsOf({ totals: { limits } }: Zone): Column[] {
  const isDry = limits !== null && limits.dryRun.some((n) => n > 0);
  return COLUMNS.filter((column) => !OF_LIMITS.includes(column) || (limits !== null && (column !== "dry" || isDry)));
}

/** Figures in the columns' units: cores or seconds, fractions of 1, requests per second or requests, ns, MB/s or MB. */
export function figures(zone: Zone, span: Span): Figures {
  const { totals, rates } = zone;
  const n = totals.keys.length;
  const none = () => new Float64Array(n).fill(NaN);
  const { limits } = totals;
  const lim = limits?.cores ?? none();
  // the current use, also beside totals: over all time it has no meaning
  const use = rates?.limits?.used.map((used, i) => used / lim[i]!) ?? none();
  if (span === "now" && !rates) {
    return {
      cpu: none(), share: none(), lim, use, ref: none(), dry: none(), req: none(), cpr: none(), mb: none(),
        spg: none(), fly: totals.inFlight,
    };
  }
  const now = span === "now" ? rates : null;
  const cpu = now ? now.cores : totals.cpuNs.map((ns) => ns / 1e9);
  const req = now ? now.requests : totals.requests;
  const bytes = now ? now.bytes : totals.sentBytes;
  const refusals = now ? now.limits : limits;
  const ref = refusals?.refused ?? none(), dry = refusals?.dryRun ?? none();
  const all = cpu.reduce((sum, value) => sum + value, 0);
  const share = none(), cpr = none(), mb = none(), spg = none();
  for (let i = 0; i < n; i++) {
    if (all > 0) share[i] = cpu[i]! / all;
    if (req[i]! > 0) cpr[i] = (cpu[i]! * 1e9) / req[i]!;
    mb[i] = bytes[i]! / 1e6;
    if (bytes[i]! > 0) spg[i] = (cpu[i]! * 1e9) / bytes[i]!;
  }
  return { cpu, share, lim, use, ref, dry, req, cpr, mb, spg, fly: totals.inFlight };
}

/** A key that exceeds its limit. */
export interface Debtor {
  key: string;
  /** in nanoseconds of CPU */
  debtNs: number;
  /** in cores */
  limit: number;
  /** in requests per second */
  refused: number;
  /** requests that `dry_run` would have refused, per second */
  dryRun: number;
}

/**
 * The number of keys with a limit. The keys in debt, or with refused requests since the last answer; the worst first.
 */
export function debtors({ totals, rates }: Zone): { limited: number; debtors: Debtor[] } {
  const { limits, keys } = totals;
  const found = { limited: 0, debtors: [] as Debtor[] };
  limits?.cores.forEach((limit, i) => {
    if (Number.isNaN(limit)) return;
    found.limited++;
    const debtNs = limits.debtNs[i]!;
    const refused = rates?.limits?.refused[i] || 0, dryRun = rates?.limits?.dryRun[i] || 0;
    // a key that keeps sending requests is in debt only at times: without refusals it would appear and disappear
    if (debtNs > 0 || refused > 0 || dryRun > 0) found.debtors.push({ key: keys[i]!, debtNs, limit, refused, dryRun });
  });
  found.debtors.sort((a, b) => b.refused - a.refused || b.debtNs / b.limit - a.debtNs / a.limit
    || (a.key < b.key ? -1 : 1));
  return found;
}

const collator = new Intl.Collator("en", { numeric: true });
const ranks = new WeakMap<string[], Int32Array>();

/** The rank of each key by name. Comparing names is slow, so it is done once for the same keys. */
function rank(keys: string[]): Int32Array {
  let found = ranks.get(keys);
  if (!found) {
    const sorted = Int32Array.from(keys.keys()).sort((a, b) => collator.compare(keys[a]!, keys[b]!));
    found = new Int32Array(keys.length);
    sorted.forEach((place, at) => (found![place] = at));
    ranks.set(keys, found);
  }
  return found;
}

/** Indices of the keys that contain a text, sorted. Keys without a figure come last; equal ones are sorted by name. */
export function order(keys: string[], figures: Figures, by: SortBy, descending: boolean, search: string): Int32Array {
  const wanted = search.toLowerCase();
  const places = new Int32Array(keys.length);
  let n = 0;
  for (let i = 0; i < keys.length; i++) {
    if (wanted === "" || keys[i]!.toLowerCase().includes(wanted)) places[n++] = i;
  }
  const found = places.subarray(0, n);
  const sign = descending ? -1 : 1;
  if (by === "key") {
    const ranks = rank(keys);
    return found.sort((a, b) => sign * (ranks[a]! - ranks[b]!));
  }
  const values = figures[by];
  return found.sort((a, b) => {
    const x = values[a]!, y = values[b]!;
    if (x !== y) {
      if (Number.isNaN(x)) return Number.isNaN(y) ? (keys[a]! < keys[b]! ? -1 : 1) : 1;
      if (Number.isNaN(y)) return -1;
      return sign * (x - y);
    }
    return keys[a]! < keys[b]! ? -1 : 1;
  });
}
