// One domain: its CPU, and the properties of requests that change its CPU per request.

import { BarChart, StackedChart, colour } from "./charts.ts";
import { byId, element, setText } from "./dom.ts";
import { bytes, count, duration, figure, percent, visible } from "./format.ts";
import { type Account, OVERFLOW, type Zone, buckets } from "./model.ts";
import { type Figures } from "./rows.ts";

/** A mean of fewer requests is marked as uncertain. */
const FEW = 10;

const SIZES: Record<string, string> = {
  "1k": "to 1 KiB", "4k": "to 4 KiB", "16k": "to 16 KiB", "64k": "to 64 KiB", "256k": "to 256 KiB", "1m": "to 1 MiB",
  "4m": "to 4 MiB", "16m": "to 16 MiB", "64m": "to 64 MiB", "inf": "over 64 MiB",
};
const ORDERS: Record<string, string> = { "1": "first", "2": "second", "3": "third", "4+": "fourth and later" };
const SESSIONS: Record<string, string> = { new: "new session", resumed: "resumed" };

interface Part {
  name: string;
  n: number;
  cpuNs: number;
}

/** Mean CPU by class of request: a table with bars. */
class MeansTable {
  private readonly section: HTMLElement;
  private readonly body: HTMLTableSectionElement;

  constructor(id: string) {
    this.section = byId(id);
    this.body = this.section.querySelector("tbody")!;
  }

  show(parts: Part[]): void {
    this.section.hidden = parts.length === 0;
    const most = Math.max(...parts.map(({ n, cpuNs }) => cpuNs / n));
    while (this.body.rows.length > parts.length) this.body.deleteRow(-1);
    parts.forEach((part, i) => {
      const mean = part.cpuNs / part.n;
      let tr = this.body.rows[i];
      if (!tr) {
        const th = element("th");
        th.scope = "row";
        const bar = element("td", { class: "bars" }, element("span", { class: "bar" }));
        tr = element("tr", {}, th, bar, element("td"), element("td"));
        this.body.append(tr);
      }
      const cell = (at: number) => tr.cells[at]!;
      setText(cell(0), part.name);
      (cell(1).firstElementChild as HTMLElement).style.width = `${most > 0 ? (100 * mean) / most : 0}%`;
      setText(cell(2), duration(mean));
      setText(cell(3), count(part.n));
      tr.classList.toggle("few", part.n < FEW);
      tr.title = part.n < FEW ? "so few tell little" : "";
    });
  }
}

/** Terms with their values. The list is rebuilt only if the terms change. */
function showTerms(list: HTMLElement, terms: [name: string, value: string, title?: string][]): void {
  const names = terms.map(([name]) => name).join();
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...terms.map(
      ([name, , title = ""]) => element("div", { title }, element("dt", { text: name }), element("dd"))));
  }
  terms.forEach(([, value], i) => setText(list.children[i]!.lastElementChild!, value));
}

/** The domain's limit, its use and its refused requests. */
function showLimit(account: Account, of: (column: keyof Figures) => number): void {
  const { limit } = account;
  byId("limit").hidden = !limit;
  if (!limit) return;
  const use = of("use");
  const told = limit.debt_ns > 0
    ? `In debt: ${duration(limit.debt_ns)} of CPU, paid in ${duration(limit.debt_ns / limit.cores)}.`
    : Number.isFinite(use) ? `${percent(use)} of ${figure(limit.cores)} cores used; no debt.` : "No debt.";
  setText(byId("limit-told"), told);
  const bar = byId("limit-use");
  bar.setAttribute("aria-label",
    Number.isFinite(use) ? `${percent(use)} of the limit used` : "use of the limit: not known yet");
  (bar.firstElementChild as HTMLElement).style.width = `${Math.min(100, 100 * (use || 0))}%`;
  byId("limit").classList.toggle("debt", limit.debt_ns > 0 || of("ref") > 0);
  const dryRun: [string, string, string][] = limit.refused_dry_run > 0 ? [
    ["Dry run/s", figure(of("dry")), "Requests that dry_run would have refused, per second"],
    ["Dry run in all", `${count(limit.refused_dry_run)} requests, ${duration(limit.refused_dry_run_cpu_ns)} of CPU`,
      "Served; they do not add to the debt"],
  ] : [];
  showTerms(byId("limit-figures"), [
    ["Limit", `${figure(limit.cores)} cores`, "From the latest checked request"],
    ["Used now", figure(use * limit.cores), "Cores, without refused requests"],
    ["Burst", duration(limit.burst_ns), "CPU that may be used at once beyond the limit"],
    ["Refused/s", figure(of("ref")), "Requests that were refused, per second"],
    ["Refused in all", `${count(limit.refused)} requests, ${duration(limit.refused_cpu_ns)} of CPU`,
      "CPU of refused requests does not add to the debt"],
    ...dryRun,
  ]);
}

/** Billing metrics. An older module does not send them. */
function showCharge(account: Account): void {
  const { duration_ms, active_ms, active_seconds, billable_cpu_ns: billable, waived_cpu_ns: waived, gb_seconds,
    peak_cores, windows } = account;
  const isCounted = billable !== undefined && waived !== undefined;
  byId("charge").hidden = !isCounted;
  if (!isCounted) return;
  const s = (value: number | undefined, unitNs: number) => duration((value ?? NaN) * unitNs);
  showTerms(byId("charge-figures"), [
    ["Requests", count(account.requests), "Executions"],
    ["Duration", s(duration_ms, 1e6), "Time in flight, summed over requests"],
    ["Active interval", s(active_ms, 1e6), "Time with at least one request in flight"],
    ["Active seconds", count(active_seconds ?? NaN), "Seconds whose CPU reached the threshold of the zone"],
    ["GB-seconds", figure(gb_seconds ?? NaN), "Memory of requests multiplied by the time they held it"],
    ["Peak cores", figure(peak_cores ?? NaN), "The most CPU of one second"],
  ]);
  // neither sum contains the current second yet
  const running = Math.max(0, account.cpu_ns - billable - waived);
  const parts: [name: string, ns: number, hue: string, title: string][] = [
    ["billable", billable, colour(0), "CPU of active seconds"],
    ["waived", waived, colour(null), "CPU of seconds below the threshold"],
    ["running second", running, colour(4), "CPU of the current second"],
  ];
  const all = billable + waived + running;
  const bar = byId("charge-cpu");
  const told = parts.map(([name, ns]) => `${name} ${duration(ns)}`).join(", ");
  bar.setAttribute("aria-label", `CPU: ${told}`);
  const legend = byId("charge-parts");
  if (!legend.childElementCount) {
    legend.append(...parts.map(([name, , , title]) => {
      return element("li", { title }, element("span", { class: "swatch" }),
        element("span", { class: "name", text: name }), element("span", { class: "value" }));
    }));
  }
  parts.forEach(([, ns, hue], i) => {
    const part = bar.children[i] as HTMLElement, [swatch, , value] = legend.children[i]!.children;
    part.style.width = `${all > 0 ? (100 * ns) / all : 0}%`;
    part.style.backgroundColor = (swatch as HTMLElement).style.backgroundColor = hue;
    setText(value!, `${duration(ns)}${all > 0 ? `, ${percent(ns / all)}` : ""}`);
  });

  const spans = Object.entries(windows ?? {});
  const table = byId<HTMLTableElement>("windows");
  table.hidden = spans.length === 0;
  const body = table.tBodies[0]!;
  while (body.rows.length > spans.length) body.deleteRow(-1);
  spans.forEach(([span, { in_flight, requests_per_second, cores }], i) => {
    let tr = body.rows[i];
    if (!tr) {
      const th = element("th");
      th.scope = "row";
      tr = element("tr", {}, th, element("td"), element("td"), element("td"));
      body.append(tr);
    }
    [span.replace(/(\d)s$/, "$1 s"), figure(in_flight), figure(requests_per_second),
      figure(cores)].forEach((text, at) => setText(tr.cells[at]!, text));
  });
}

export class Detail {
  private readonly panel = byId("detail");
  private readonly chart = new StackedChart(byId("detail-chart"), "Cores of the domain");
  private readonly histogram = new BarChart(byId("histogram-plot"));
  private readonly order = new MeansTable("by-order");
  private readonly cache = new MeansTable("by-cache");
  private readonly size = new MeansTable("by-size");
  private readonly tls = new MeansTable("by-tls");
  private key: string | null = null;

  constructor(close: () => void) {
    byId("detail-close").addEventListener("click", close);
  }

  hide(): void {
    this.panel.hidden = true;
    this.key = null;
  }

  /** `account`: from the latest answer; null before the first answer, or if the account is gone. */
  show(key: string, zone: Zone | undefined, now: Figures | null, account: Account | null, hue: string): void {
    const isOther = this.key !== key;
    this.key = key;
    this.panel.hidden = false;
    setText(byId("detail-key"), key === OVERFLOW ? "* (what found no room)" : visible(key));
    const place = zone ? zone.totals.keys.indexOf(key) : -1;
    const isGone = place < 0;
    const message = byId("detail-message");
    message.hidden = !isGone && account !== null;
    setText(message, isGone ? "This domain has no account in the zone." : "Waiting for its figures…");
    byId("detail-body").hidden = isGone || account === null;
    if (isGone || !zone || !account) return;

    const of = (column: keyof Figures) => now?.[column][place] ?? NaN;
    const tiles: [string, string][] = [
      ["Cores now", figure(of("cpu"))],
      ["10 s · 1 min · 5 min", ["10s", "1m", "5m"].map((span) => figure(account.cores[span] ?? NaN)).join(" · ")],
      ["Requests/s", figure(of("req"))],
      ["CPU/request", duration(of("cpr"))],
      ["MB/s", figure(of("mb"))],
      ["CPU s/GB", figure(of("spg"))],
      ["In flight", count(account.in_flight)],
      ["Responses", responses(account)],
      ["In all", `${count(account.requests)} requests, ${duration(account.cpu_ns)} of CPU, ${bytes(account.sent_bytes)} sent`],
    ];
    showTerms(byId("detail-tiles"), tiles);
    showLimit(account, of);
    showCharge(account);

    this.chart.show(
      zone.history.map((moment) => moment.time),
      [{ name: visible(key), colour: hue,
        values: zone.history.map(({ cores }) => (cores ? cores.get(key) ?? 0 : null)) }],
    );
    const parts = (
      names: Record<string, string>,
      of: Record<string, { cpu_ns: number; requests?: number; handshakes?: number }> = {},
    ) =>
      sorted(Object.keys(of), Object.keys(names)).map((name) => {
        const { cpu_ns, requests, handshakes } = of[name]!;
        return { name: names[name] ?? visible(name), n: requests ?? handshakes ?? 0, cpuNs: cpu_ns };
      }).filter(({ n }) => n > 0);
    this.order.show(parts(ORDERS, account.by_connection_order));
    this.cache.show(parts({ NONE: "no cache" }, account.by_cache_status));
    this.size.show(parts(SIZES, account.by_response_size));
    this.tls.show(parts(SESSIONS, account.tls_handshakes));

    const bars = buckets(account);
    byId("histogram").hidden = bars.length === 0;
    const bound = (le: number, i: number) =>
      (le === Infinity ? `> ${round(bars[i - 1]?.le ?? 10e9)}` : `≤ ${round(le)}`);
    this.histogram.show(bars.map(({ le }, i) => bound(le, i)), bars.map(({ requests }) => requests));
    const body = byId("histogram-table").querySelector("tbody")!;
    body.replaceChildren(...bars.map(({ le, requests }, i) => {
      const th = element("th", { text: le === Infinity ? bound(le, i) : `up to ${round(le)}` });
      th.scope = "row";
      return element("tr", {}, th, element("td", { text: count(requests) }));
    }));
    if (isOther && matchMedia("(max-width: 1080px)").matches) this.panel.scrollIntoView({ block: "start" });
  }
}

/** A bound of the histogram. All bounds are round numbers. */
function round(ns: number): string {
  return ns < 1e6 ? `${ns / 1e3} µs` : ns < 1e9 ? `${ns / 1e6} ms` : `${ns / 1e9} s`;
}

function responses(account: Account): string {
  const classes = Object.entries(account.responses).filter(([, n]) => n > 0);
  return classes.map(([name, n]) => `${name} ${count(n)}`).join(" · ") || "none yet";
}

/** Sorts names in the order of a list. Names that are not in the list come last. */
function sorted(names: string[], list: string[]): string[] {
  const place = (name: string) => (list.includes(name) ? list.indexOf(name) : list.length);
  return names.sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
}
