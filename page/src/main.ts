// The page: polls the endpoint, shows the figures and handles the viewer's choices.

import { Colours, type Layer, StackedChart, colour } from "./charts.ts";
import { Detail } from "./detail.ts";
import { byId, element, setText } from "./dom.ts";
import { count, duration, figure, percent, timeOfDay, visible } from "./format.ts";
import { type Account, Model, OWNERS, type Owner, type Zone } from "./model.ts";
import { Poller, Refused, ask, reason } from "./poll.ts";
import { type Figures, type SortBy, columnsOf, debtors, figures, order } from "./rows.ts";
import { type Choice, readChoice, remember, remembered, writeChoice } from "./state.ts";
import { Table } from "./table.ts";

/** Number of domains with their own colour. */
const TOP = 8;
/** If all zones together have at most this many accounts, the page requests all zones, so that switching is instant. */
const SMALL = 2000;
/** Number of domains beyond their limits that are named. */
const NAMED_DEBTORS = 3;
/** A notice disappears after this time. */
const NOTICE_MS = 60_000;

const OWNER_TEXTS: Record<Owner, [name: string, title: string]> = {
  charged: ["charged", "CPU charged to requests and their domains"],
  no_request: ["no request", "Connections without a request: port scans, failed handshakes"],
  loop: ["loop", "The event loop: waiting for events and queueing them"],
  other: ["other", "Handler calls without an owner, for example the server's own timers"],
};
const OWNER_COLOURS: Record<Owner, number | null> = { charged: 0, no_request: 4, loop: null, other: 5 };

/** The reason for a missing answer, as the end of a sentence. */
const FORBIDDEN = "a Content-Security-Policy of the server forbids this page to ask for the figures. An add_header in the location of "
  + "request_cpu_status keeps policies of upper levels away";

const model = new Model();
let choice: Choice = readChoice(location.hash, location.search);
let account: Account | null = null;
let accountOf = "";
let shown: { zone: Zone; all: Figures; now: Figures } | null = null;
let isPaused = false;
let goneSince: number | null = null;
let goneWhy = "";
let askForAll = true;
let slowMs = 0;

const colours = new Colours();
const booksChart = new StackedChart(byId("books-chart"), "CPU of the workers");
const topChart = new StackedChart(byId("top-chart"), "Cores by domain");
const detail = new Detail(() => choose(null));
const table = new Table(byId("rows"), byId<HTMLTableElement>("table"), sortBy, choose);
const zones = byId<HTMLSelectElement>("zone");
const search = byId<HTMLInputElement>("search");
const interval = byId<HTMLSelectElement>("interval");
const poller = new Poller(poll, failed, 2000);

// removes the notice that script or style are missing; without the style the notice stays
if (getComputedStyle(document.documentElement).getPropertyValue("--card") !== "") byId("blocked").remove();

/** Set when a Content-Security-Policy blocks the page's requests. The browser reports that after the request fails. */
let isForbidden = false;
addEventListener("securitypolicyviolation", ({ effectiveDirective, disposition }) => {
  if (effectiveDirective !== "connect-src" || disposition !== "enforce") return;
  isForbidden = true;
  if (goneSince === null) return;
  goneWhy = FORBIDDEN;
  show();
});

// ---- polling ----

async function poll(signal: AbortSignal): Promise<void> {
  const accounts = [...model.zones.values()].reduce((sum, zone) => sum + zone.status.accounts, 0);
  const one = !askForAll && accounts > SMALL && choice.zone !== null && model.zones.has(choice.zone)
    ? choice.zone : null;
  const began = performance.now();
  let status;
  try {
    status = await ask({ ...(one === null ? {} : { zone: one }), detail: "low" }, signal);
  } catch (error) {
    // a reload may have removed the zone
    if (error instanceof Refused && error.code === 404) askForAll = true;
    throw error;
  }
  slowMs = performance.now() - began;
  measured("answer", began);
  const told = performance.now();
  const news = model.feed(status, began, slowMs, one === null, choice.key);
  measured("take", told);
  askForAll = news.reloaded;
  if (choice.zone === null || !model.zones.has(choice.zone)) {
    // report a zone that was requested by name and does not exist
    if (choice.zone === null) choice.zone = model.zones.keys().next().value ?? null;
  }
  const at = timeOfDay(model.last!.timeMs);
  if (news.restarted) notice(`The counters restarted at ${at}. The figures begin there.`);
  else if (news.reloaded) notice(`NGINX has new workers since ${at}. The counters continue.`);
  if (news.clockSet) notice(`A clock was set at ${at}. The rates begin anew.`);
  await pollAccount(signal);
  goneSince = null;
  poller.isUrgent = choice.zone !== null && model.zones.get(choice.zone)?.rates === null;
  show();
}

/** Requests the chosen domain with all details, if it exists. */
async function pollAccount(signal: AbortSignal): Promise<void> {
  const { zone, key } = choice;
  const name = JSON.stringify([zone, key]);
  if (name !== accountOf) account = null;
  accountOf = name;
  if (zone === null || key === null || !model.zones.get(zone)?.totals.keys.includes(key)) return;
  const found = (await ask({ zone, key, detail: "full" }, signal)).zones[zone]?.keys[key] ?? null;
  // the viewer may have chosen another domain meanwhile
  if (accountOf === JSON.stringify([choice.zone, choice.key])) account = found;
}

function failed(error: unknown): void {
  model.interrupt();
  if (goneSince === null) goneSince = model.last?.timeMs ?? Date.now();
  // a policy with "sandbox" removes the page's origin: requests to its own server are cross-origin then
  goneWhy = error instanceof TypeError && (isForbidden || self.origin === "null") ? FORBIDDEN : reason(error);
  show();
}

// ---- display ----

function show(): void {
  const began = performance.now();
  showAll();
  measured("show", began);
}

/** For the browser's developer tools and for tests. Older measurements are cleared, so that they do not accumulate. */
function measured(what: string, start: number): void {
  performance.clearMeasures(`request_cpu ${what}`);
  performance.measure(`request_cpu ${what}`, { start });
}

function showAll(): void {
  showState();
  const { last } = model;
  if (!last) return;
  setText(byId("about"), `NGINX ${last.nginxVersion} · module ${last.version} · ${last.clock} clock`);
  setText(byId("time"), timeOfDay(last.timeMs));
  byId("content").hidden = false;
  showZones();
  showBooks();
  const zone = choice.zone === null ? undefined : model.zones.get(choice.zone);
  showMissing(zone);
  showLimits(zone);
  if (zone) {
    const now = figures(zone, "now");
    shown = { zone, now, all: choice.span === "now" ? now : figures(zone, "total") };
    showTop(zone);
    showTable();
  } else {
    shown = null;
  }
  if (choice.key === null) detail.hide();
  else detail.show(choice.key, zone, shown?.now ?? null, account, colours.all().get(choice.key) ?? colour(0));
  document.body.classList.toggle("with-detail", choice.key !== null);
}

function showState(): void {
  const is = goneSince !== null ? "gone" : isPaused ? "paused" : model.last ? "live" : "starting";
  document.body.dataset.state = is;
  setText(byId("state"), { gone: "No answer", paused: "Paused", live: "Live", starting: "Connecting" }[is]);
  const gone = byId("gone");
  gone.hidden = is !== "gone";
  if (is === "gone") {
    const kept = model.last ? " The figures below are from then." : "";
    setText(byId("gone-text"), `No answer since ${timeOfDay(goneSince!)}: ${goneWhy}.${kept}`);
  }
  const slow = byId("slow");
  slow.hidden = is !== "live" || slowMs < poller.intervalMs / 2;
  setText(slow, `An answer takes ${duration(slowMs * 1e6)}. The page asks less often.`);
}

function showZones(): void {
  const names = [...model.zones.keys()];
  if (choice.zone !== null && !names.includes(choice.zone)) names.push(choice.zone);
  const have = [...zones.options].map((option) => option.value);
  if (JSON.stringify(have) !== JSON.stringify(names)) {
    zones.replaceChildren(...names.map((name) => new Option(visible(name), name)));
  }
  zones.value = choice.zone ?? "";
}

function showBooks(): void {
  const layers: Layer[] = OWNERS.map((owner) => ({
    name: OWNER_TEXTS[owner][0],
    title: OWNER_TEXTS[owner][1],
    colour: colour(OWNER_COLOURS[owner]),
    values: model.history.map(({ cores }) => (cores ? cores[owner] : null)),
  }));
  booksChart.show(model.history.map(({ time }) => time), layers);

  const list = byId("workers");
  const workers = model.workers ?? [];
  const most = Math.max(...workers.map(({ all }) => all), 1e-9);
  while (list.childElementCount > workers.length) list.lastElementChild!.remove();
  workers.forEach((worker, i) => {
    let item = list.children[i] as HTMLElement | undefined;
    if (!item) {
      const parts = OWNERS.map((owner) => element("span", { class: owner }));
      item = element("li", {}, element("span"), element("span", { class: "parts" }, ...parts),
        element("span", { class: "value" }));
      item.children[1]!.setAttribute("aria-hidden", "true");
      list.append(item);
    }
    setText(item.children[0]!, `worker ${worker.worker}`);
    OWNERS.forEach((owner, n) => {
      const part = item.children[1]!.children[n] as HTMLElement;
      part.style.width = `${(100 * worker.cores[owner]) / most}%`;
      part.style.backgroundColor = colour(OWNER_COLOURS[owner]);
    });
    setText(item.children[2]!, figure(worker.all));
    const parts = OWNERS.map((owner) => `${OWNER_TEXTS[owner][0]} ${figure(worker.cores[owner])}`);
    if (worker.uncounted > 0) parts.push(`charged, in no account ${figure(worker.uncounted)}`);
    if (worker.poolThreads > 0) parts.push(`pool threads ${figure(worker.poolThreads)}`);
    item.title = `process ${worker.pid}: ${parts.join(", ")}`;
    item.setAttribute("aria-label",
      `worker ${worker.worker}, process ${worker.pid}: ${figure(worker.all)} cores; ${parts.join(", ")}`);
  });

  const all = workers.reduce((sum, worker) => sum + worker.all, 0);
  const charged = workers.reduce((sum, worker) => sum + worker.cores.charged, 0);
  tile("tile-cpu", model.workers ? figure(all) : "–",
    `cores of ${count(model.workerCount)} worker${model.workerCount === 1 ? "" : "s"}`);
  tile("tile-charged", model.workers && all > 0 ? percent(charged / all) : "–", "of it charged to requests");
}

function tile(id: string, value: string, what: string): void {
  const [number, text] = byId(id).children;
  setText(number!, value);
  setText(text!, what);
}

function showMissing(zone: Zone | undefined): void {
  const message = byId("empty");
  const missing =
    !model.zones.size ? "No zone is configured: see request_cpu_zone." :
    !zone ? `There is no zone "${visible(choice.zone ?? "")}".` :
    !zone.totals.keys.length ? "No request has been counted in this zone yet." : "";
  message.hidden = missing === "";
  setText(message, missing);
  byId("domains").hidden = missing !== "";
  byId("top-card").hidden = missing !== "";
  if (missing) for (const id of ["tile-requests", "tile-cpr", "tile-bytes", "tile-flight"]) tile(id, "–", "");

  const fill = zone?.status;
  const part = fill && fill.capacity > 0 ? fill.accounts / fill.capacity : 0;
  tile("tile-fill", fill ? count(fill.accounts) : "–", fill ? `of ${count(fill.capacity)} accounts` : "accounts");
  const meter = byId<HTMLMeterElement>("fill");
  meter.value = part;
  meter.hidden = !fill;
  const full = byId("full");
  const told: string[] = [];
  if (fill && fill.overflowed > 0) {
    told.push(`${count(fill.overflowed)} requests found this zone full and are counted in "*". Increase the zone's size.`);
  } else if (part >= 0.9) {
    told.push(`This zone is ${percent(part)} full.`);
  }
  if (fill?.cut) told.push(`${count(fill.cut)} requests had a key longer than 255 bytes. The key was cut.`);
  full.hidden = told.length === 0;
  setText(full, told.join(" "));
}

/** Where any domain has a limit: how many are beyond theirs, and which. */
function showLimits(zone: Zone | undefined): void {
  const { limited, debtors: found } = zone ? debtors(zone) : { limited: 0, debtors: [] };
  const box = byId("limits");
  box.hidden = limited === 0;
  box.classList.toggle("debt", found.length > 0);
  tile("limits", count(found.length),
    `of ${count(limited)} limited domain${limited === 1 ? "" : "s"} beyond ${limited === 1 ? "its limit" : "their limits"}${found.length > 0 ? ":" : ""}`);
  const list = box.querySelector("ul")!;
  const named = found.slice(0, NAMED_DEBTORS);
  while (list.childElementCount > named.length) list.lastElementChild!.remove();
  named.forEach(({ key, debtNs, limit, refused, dryRun }, i) => {
    let button = list.children[i]?.firstElementChild as HTMLButtonElement | undefined;
    if (!button) {
      button = element("button", {}, element("bdi"), element("span"));
      button.type = "button";
      button.addEventListener("click", (event) => {
        const { key } = (event.currentTarget as HTMLElement).dataset;
        if (key !== undefined && key !== choice.key) choose(key);
      });
      list.append(element("li", {}, button));
    }
    button.dataset.key = key;
    setText(button.firstElementChild!, visible(key));
    setText(button.lastElementChild!, dryRun > refused ? " (dry run)" : "");
    button.title = debtNs > 0 ? `${duration(debtNs)} of CPU in debt, paid in ${duration(debtNs / limit)}`
      : "no debt now";
  });
}

function showTop(zone: Zone): void {
  const top = zone.top(TOP);
  colours.assign(top);
  const given = colours.all();
  const times = zone.history.map(({ time }) => time);
  const layers: Layer[] = top.map((key) => ({
    name: visible(key),
    colour: given.get(key)!,
    values: zone.history.map(({ cores }) => (cores ? cores.get(key) ?? 0 : null)),
    pick: () => choose(key),
  }));
  if (zone.totals.keys.length > top.length) layers.unshift({
    name: "others",
    title: "All other domains",
    colour: colour(null),
    values: zone.history.map(({ cores, all }) => {
      return cores ? Math.max(0, top.reduce((left, key) => left - (cores.get(key) ?? 0), all)) : null;
    }),
  });
  topChart.show(times, layers);
}

function showTable(): void {
  if (!shown) return;
  const { zone, all, now } = shown;
  const { keys } = zone.totals;
  const columns = columnsOf(zone);
  // an address may name a column that this zone has not
  const sort = choice.sort === "key" || columns.includes(choice.sort) ? choice.sort : "cpu";
  const found = order(keys, all, sort, choice.descending, choice.search);
  table.show({
    keys,
    figures: all,
    order: found,
    columns,
    debtors: new Set(debtors(zone).debtors.map(({ key }) => key)),
    span: choice.span,
    sort,
    descending: choice.descending,
    chosen: choice.key,
    colours: colours.all(),
  });
  setText(byId("found"), choice.search === "" ? `${count(keys.length)} domains`
    : `${count(found.length)} of ${count(keys.length)} domains`);
  // read aloud for those who search, not whenever a domain is new
  byId("found").setAttribute("aria-live", choice.search === "" ? "off" : "polite");
  const none = byId("none-found");
  none.hidden = found.length > 0;
  setText(none, `No domain contains “${visible(choice.search)}”.`);
  byId("rows").hidden = found.length === 0;
  byId<HTMLButtonElement>("span-now").setAttribute("aria-pressed", String(choice.span === "now"));
  byId<HTMLButtonElement>("span-total").setAttribute("aria-pressed", String(choice.span === "total"));

  const sum = (column: Float64Array) => column.reduce((sum, value) => sum + value, 0);
  const requests = sum(now.req), cpu = sum(now.cpu);
  tile("tile-requests", figure(requests), "requests/s");
  tile("tile-cpr", requests > 0 ? duration((cpu * 1e9) / requests) : "–", "CPU per request");
  tile("tile-bytes", figure(sum(now.mb)), "MB/s sent");
  tile("tile-flight", count(sum(now.fly)), "requests in flight");
}

function notice(text: string): void {
  const close = element("button", { text: "Dismiss" });
  close.type = "button";
  const line = element("div", { class: "notice" }, element("span", { text }), close);
  close.addEventListener("click", () => line.remove());
  setTimeout(() => line.remove(), NOTICE_MS);
  const box = byId("notices");
  box.append(line);
  while (box.childElementCount > 3) box.firstElementChild!.remove();
}

// ---- choosing ----

function chosen(): void {
  history.replaceState(null, "", writeChoice(choice));
  show();
}

function sortBy(column: SortBy): void {
  if (choice.sort === column) choice.descending = !choice.descending;
  else Object.assign(choice, { sort: column, descending: column !== "key" });
  chosen();
}

function choose(key: string | null): void {
  choice.key = key === choice.key ? null : key;
  account = null;
  chosen();
  // at once, and also while the page is paused
  pollAccount(AbortSignal.timeout(10_000)).then(show, () => {});
}

zones.addEventListener("change", () => {
  Object.assign(choice, { zone: zones.value, key: null });
  chosen();
  if (!isPaused) poller.start();
});

search.addEventListener("input", () => {
  choice.search = search.value;
  chosen();
});

byId("span-now").addEventListener("click", () => {
  choice.span = "now";
  chosen();
});
byId("span-total").addEventListener("click", () => {
  choice.span = "total";
  chosen();
});

const pause = byId<HTMLButtonElement>("pause");
pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.setAttribute("aria-pressed", String(isPaused));
  setText(pause, isPaused ? "Resume" : "Pause");
  follow();
  show();
});

byId("skip").addEventListener("click", (event) => {
  // without a change of the address, which has what is chosen
  event.preventDefault();
  table.focus();
});

byId("retry").addEventListener("click", () => (isPaused ? pause.click() : poller.start()));

interval.value = remembered("interval") ?? "2000";
if (interval.selectedIndex < 0) interval.value = "2000";
interval.addEventListener("change", () => {
  remember("interval", interval.value);
  poller.intervalMs = Number(interval.value);
  if (!isPaused) poller.start();
});
poller.intervalMs = Number(interval.value);

const themes = byId<HTMLSelectElement>("theme");
function setTheme(name: string): void {
  if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  show();
}
themes.value = remembered("theme") ?? "auto";
if (themes.selectedIndex < 0) themes.value = "auto";
themes.addEventListener("change", () => {
  remember("theme", themes.value);
  setTheme(themes.value);
});
setTheme(themes.value);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show());

addEventListener("hashchange", () => {
  choice = readChoice(location.hash, location.search);
  search.value = choice.search;
  show();
  if (!isPaused) poller.start();
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape" && event.target === search && search.value) {
    search.value = "";
    choice.search = "";
    chosen();
  } else if (event.key === "Escape" && choice.key !== null) {
    choose(null);
  }
});

/** Nothing is asked for while nobody looks. */
function follow(): void {
  if (isPaused || document.hidden) {
    poller.stop();
    model.interrupt();
  } else {
    poller.start();
  }
}
document.addEventListener("visibilitychange", follow);

setInterval(() => {
  if (goneSince === null) return;
  const wait = Math.ceil((poller.next - performance.now()) / 1000);
  setText(byId("gone-wait"), isPaused ? "" : wait > 0 ? `Next try in ${wait} s.` : "Trying…");
}, 500);

search.value = choice.search;
follow();
