// Which rows the table has, and in which order.

import type { Zone } from "./model.ts";

/** Columns of the table after the key, by their names in the page's address. */
export const COLUMNS = ["cpu", "share", "lim", "use", "ref", "dry", "req", "cpr", "mb", "spg", "fly"] as const;
export type Column = (typeof COLUMNS)[number];
/** Those that are there only where an account has a limit; the last one only where `dry_run` has found something. */
const OF_LIMITS: readonly Column[] = ["lim", "use", "ref", "dry"];
export type SortBy = Column | "key";

/** `now`: between the last two answers; `total`: since the counters began. */
export type Span = "now" | "total";

/** The figures of a zone's accounts: one value for each key, NaN where there is none. */
export type Figures = Record<Column, Float64Array>;

/** The columns that say something of a zone. */
export function columnsOf({ totals: { limits } }: Zone): Column[] {
  const isDry = limits !== null && limits.dryRun.some((n) => n > 0);
  return COLUMNS.filter((column) => !OF_LIMITS.includes(column) || (limits !== null && (column !== "dry" || isDry)));
}

/** Figures in the columns' own units: cores or seconds, parts of 1, requests per second or requests, nanoseconds, MB/s or MB. */
export function figures(zone: Zone, span: Span): Figures {
  const { totals, rates } = zone;
  const n = totals.keys.length;
  const none = () => new Float64Array(n).fill(NaN);
  const { limits } = totals;
  const lim = limits?.cores ?? none();
  // also beside totals: over all time, it says nothing
  const use = rates?.limits?.used.map((used, i) => used / lim[i]!) ?? none();
  if (span === "now" && !rates) {
    return {
      cpu: none(), share: none(), lim, use, ref: none(), dry: none(), req: none(), cpr: none(), mb: none(), spg: none(), fly: totals.inFlight,
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

/** What is to be told of a key that is beyond its limit. */
export interface Debtor {
  key: string;
  /** nanoseconds of CPU */
  debtNs: number;
  /** cores */
  limit: number;
  /** requests per second */
  refused: number;
  /** requests per second that `dry_run` would have refused */
  dryRun: number;
}

/** How many keys have a limit, and those that are in debt or had requests refused since the last answer, the worst first. */
export function debtors({ totals, rates }: Zone): { limited: number; debtors: Debtor[] } {
  const { limits, keys } = totals;
  const found = { limited: 0, debtors: [] as Debtor[] };
  limits?.cores.forEach((limit, i) => {
    if (Number.isNaN(limit)) return;
    found.limited++;
    const debtNs = limits.debtNs[i]!;
    const refused = rates?.limits?.refused[i] || 0, dryRun = rates?.limits?.dryRun[i] || 0;
    // who keeps asking is in debt now and again only, and would come and go
    if (debtNs > 0 || refused > 0 || dryRun > 0) found.debtors.push({ key: keys[i]!, debtNs, limit, refused, dryRun });
  });
  found.debtors.sort((a, b) => b.refused - a.refused || b.debtNs / b.limit - a.debtNs / a.limit || (a.key < b.key ? -1 : 1));
  return found;
}

const collator = new Intl.Collator("en", { numeric: true });
const ranks = new WeakMap<string[], Int32Array>();

/** For each key, how many come before it by name. Comparing names takes long, so it is done once for the same keys. */
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

/** Places of the keys that contain a text, in order; keys without a figure come last, and equals in the order of their names. */
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
