// What the page knows without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, count, duration, figure, keyArgument, percent, visible } from "../src/format.ts";
import { type Account, Model, type Status, type WorkerTotals, buckets } from "../src/model.ts";
import { columnsOf, debtors, figures, order } from "../src/rows.ts";
import { readChoice, writeChoice } from "../src/state.ts";

function account(cpu_ns: number, requests = 0, sent_bytes = 0): Account {
  return { cpu_ns, requests, sent_bytes, received_bytes: 0, wakeups: 0, in_flight: 0, responses: {}, cores: {} };
}

function books(pid: number, charged_ns: number, loop_ns = 0): WorkerTotals {
  return { worker: 0, pid, wakeups: 0, thread_cpu_ns: charged_ns + loop_ns, charged_ns, no_request_ns: 0, loop_ns,
    other_ns: 0, pool_threads_cpu_ns: 0 };
}

function status(ms: number, zones: Record<string, Record<string, Account>>, workers: WorkerTotals[] = []): Status {
  const of = (keys: Record<string, Account>) => ({
    size_bytes: 1, used_bytes: 1, capacity: 10, accounts: Object.keys(keys).length, overflowed: 0, keys,
  });
  return {
    version: "0.1.0", nginx_version: "1.28.3", clock: "hybrid", max_error_ns: 0,
    time: new Date(1_800_000_000_000 + ms).toISOString(), workers,
    zones: Object.fromEntries(Object.entries(zones).map(([name, keys]) => [name, of(keys)])),
  };
}

/** A model that has been told some answers, each at the browser's time that fits; and what the last one was. */
function told(...answers: Status[]) {
  const model = new Model();
  let news;
  for (const answer of answers) news = model.feed(answer, Date.parse(answer.time), 1, true, null);
  return { model, news: news! };
}

test("rates are differences over the time that the answers tell", () => {
  const { model } = told(
    status(0, { z: { a: account(1e9, 10, 1e6) } }, [books(1, 5e9)]),
    status(2000, { z: { a: account(2e9, 30, 5e6), b: account(5e8, 2, 0) } }, [books(1, 6e9, 5e8)]),
  );
  const zone = model.zones.get("z")!;
  assert.deepEqual([...zone.rates!.cores], [0.5, 0.25]);
  assert.deepEqual([...zone.rates!.requests], [10, 1]);
  assert.deepEqual([...zone.rates!.bytes], [2e6, 0]);
  assert.deepEqual(model.workers!.map(({ pid, all, cores }) => [pid, all, cores.charged, cores.loop]),
    [[1, 0.75, 0.5, 0.25]]);
  assert.deepEqual([...zone.history.at(-1)!.cores!], [["a", 0.5], ["b", 0.25]]);
  const now = figures(zone, "now");
  assert.deepEqual([now.share[0], now.cpr[0], now.mb[0], now.spg[0]], [2 / 3, 5e7, 2, 250]);
  assert.ok(Number.isNaN(now.spg[1]), "nothing was sent");
  assert.equal(figures(zone, "total").cpu[0], 2);
});

test("a worker shows the cores that are in no account", () => {
  const { model } = told(
    status(0, { z: {} }, [{ ...books(1, 5e9), uncounted_ns: 1e9 }]),
    status(2000, { z: {} }, [{ ...books(1, 6e9), uncounted_ns: 1.5e9 }, books(2, 1e9)]),
  );
  assert.deepEqual(model.workers!.map(({ uncounted }) => uncounted), [0.25, 0]);
});

test("the first answer has no rates, nor has the first one after a pause", () => {
  const model = new Model();
  const feed = (ms: number, cpu: number) => {
    const answer = status(ms, { z: { a: account(cpu) } }, [books(1, cpu)]);
    return model.feed(answer, Date.parse(answer.time), 1, true, null);
  };
  feed(0, 1e9);
  const zone = model.zones.get("z")!;
  assert.equal(zone.rates, null);
  assert.equal(model.workers, null);
  feed(1000, 2e9);
  assert.deepEqual([...zone.rates!.cores], [1]);
  model.interrupt();
  model.interrupt();
  assert.deepEqual([...zone.rates!.cores], [1], "the last figures stay");
  assert.deepEqual(zone.history.map(({ cores }) => cores?.get("a") ?? null), [null, 1, null]);
  assert.equal(feed(60_000, 9e9).restarted, false);
  assert.equal(zone.rates, null);
  feed(61_000, 9.5e9);
  assert.deepEqual([...zone.rates!.cores], [0.5]);
});

test("counters that fell begin anew", () => {
  const before = status(0, { z: { a: account(5e9, 9, 9) } });
  for (const after of [{ a: account(1e9, 9, 9) }, { a: account(6e9, 1, 9) }, { a: account(6e9, 9, 1) },
    { b: account(9e9, 99, 99) }, {}]) {
    const { model, news } = told(before, status(1000, { z: after }));
    assert.equal(news.restarted, true);
    assert.equal(model.zones.get("z")!.rates, null);
    assert.equal(model.zones.get("z")!.history.length, 1, "what was before is not shown");
  }
  assert.equal(told(before, status(1000, { z: { a: account(5e9, 9, 9), b: account(1) } })).news.restarted, false);
  assert.equal(told(status(0, { z: {} }), status(1000, { z: {} })).news.restarted, false);
});

test("after a reload counters go on, with other workers", () => {
  const { model, news } = told(
    status(0, { z: { a: account(1e9) } }, [books(1, 1e9)]),
    status(1000, { z: { a: account(2e9) } }, [books(1, 1.4e9), books(2, 5e8)]),
  );
  assert.deepEqual(news, { restarted: false, reloaded: true, clockSet: false });
  assert.deepEqual(model.workers!.map(({ pid, all }) => [pid, +all.toFixed(9)]), [[1, 0.4], [2, 0.5]]);
});

test("a process number that comes again is not compared", () => {
  const { model } = told(status(0, { z: {} }, [books(1, 5e9)]), status(1000, { z: {} }, [books(1, 1e9)]));
  assert.equal(model.workers, null);
});

test("a clock that is set makes no rates", () => {
  assert.equal(told(status(5000, { z: {} }), status(1000, { z: {} })).news.clockSet, true);
  const model = new Model();
  model.feed(status(0, { z: { a: account(0) } }), 0, 1, true, null);
  assert.equal(model.feed(status(3_600_000, { z: { a: account(1) } }), 2000, 1, true, null).clockSet, true);
  assert.equal(model.zones.get("z")!.rates, null);
});

test("answers that come at once after each other are not compared", () => {
  const { model } = told(
    status(0, { z: { a: account(0) } }), status(1000, { z: { a: account(1e9) } }),
      status(1010, { z: { a: account(2e9) } }),
  );
  assert.deepEqual([...model.zones.get("z")!.rates!.cores], [1]);
});

test("zones that an answer was not asked for stay", () => {
  const model = new Model();
  model.feed(status(0, { y: { a: account(1) }, z: { a: account(1) } }), 0, 1, true, null);
  model.feed(status(1000, { z: { a: account(1) } }), 1000, 1, false, null);
  assert.deepEqual([...model.zones.keys()], ["y", "z"]);
  model.feed(status(2000, { z: { a: account(1) } }), 2000, 1, true, null);
  assert.deepEqual([...model.zones.keys()], ["z"]);
});

test("keys that change their places are compared with themselves", () => {
  // numbers come first in an object, whatever the order in the text
  const { model } = told(
    status(0, { z: { b: account(1e9), a: account(2e9) } }),
    status(1000, { z: { b: account(1.5e9), 7: account(1e8), a: account(2.25e9), __proto__x: account(0) } }),
  );
  const { totals, rates } = model.zones.get("z")!;
  assert.deepEqual(Object.fromEntries(totals.keys.map((key, i) => [key, rates!.cores[i]])),
    { 7: 0.1, b: 0.5, a: 0.25, __proto__x: 0 });
});

test("a key may be called __proto__", () => {
  const parsed = (cpu: number) => JSON.parse(`{"__proto__": ${JSON.stringify(account(cpu))}}`);
  const { model } = told(status(0, { z: parsed(0) }), status(1000, { z: parsed(1e9) }));
  const zone = model.zones.get("z")!;
  assert.deepEqual(zone.totals.keys, ["__proto__"]);
  assert.deepEqual([...zone.rates!.cores], [1]);
  assert.deepEqual(zone.top(8), ["__proto__"]);
});

test("of many keys the largest are remembered, and the one that is watched", () => {
  const all = (n: number) =>
    Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`k${i}`, account(n * i * 1e6)]));
  const model = new Model();
  model.feed(status(0, { z: all(0) }), 0, 1, true, "k5");
  model.feed(status(1000, { z: all(1) }), 1000, 1, true, "k5");
  const zone = model.zones.get("z")!;
  const { cores, all: sum } = zone.history.at(-1)!;
  assert.equal(cores!.size, 33);
  assert.equal(cores!.get("k5"), 0.005);
  assert.ok(Math.abs(sum - 499.5) < 1e-9);
  assert.deepEqual(zone.top(3), ["k999", "k998", "k997"]);
});

test("what is remembered has an end", () => {
  const answers = Array.from({ length: 2000 }, (_, i) => status(1000 * i, { z: { a: account(i) } }, [books(1, i)]));
  const { model } = told(...answers);
  assert.equal(model.zones.get("z")!.history.length, 900);
  assert.equal(model.history.length, 900);
});

test("the histogram's bars are what its sums grow by", () => {
  const of = (by_request_cpu: Account["by_request_cpu"], requests: number) =>
    buckets({ ...account(0, requests), ...(by_request_cpu && { by_request_cpu }) });
  assert.deepEqual(of([{ le_ns: 1e4, requests: 2 }, { le_ns: 2e4, requests: 2 }, { le_ns: 5e4, requests: 7 }], 7),
    [{ le: 1e4, requests: 2 }, { le: 2e4, requests: 0 }, { le: 5e4, requests: 5 }]);
  assert.deepEqual(of([{ le_ns: 1e4, requests: 2 }], 3), [{ le: 1e4, requests: 2 }, { le: Infinity, requests: 1 }]);
  assert.deepEqual(of(undefined, 0), []);
});

test("rows are in order, those without a figure last, equal ones by name", () => {
  const { model } = told(
    status(0, { z: { d: account(0), c: account(0), b: account(0), A: account(0) } }),
    status(1000, { z: { d: account(1, 1), c: account(5), b: account(9, 9), A: account(1, 1) } }),
  );
  const zone = model.zones.get("z")!;
  const { keys } = zone.totals;
  const by = (...how: [Parameters<typeof order>[2], boolean, string]) =>
    [...order(keys, figures(zone, "now"), ...how)].map((i) => keys[i]).join("");
  assert.equal(by("cpu", true, ""), "bcAd");
  assert.equal(by("cpu", false, ""), "Adcb");
  assert.equal(by("cpr", true, ""), "Abdc");
  assert.equal(by("cpr", false, ""), "Abdc");
  assert.equal(by("key", false, ""), "Abcd");
  assert.equal(by("key", true, ""), "dcbA");
  assert.equal(by("cpu", true, "a"), "A");
});

/** An account with a limit of half a core. */
function limited(cpu_ns: number, refused = 0, debt_ns = 0, dry = 0): Account {
  const limit = {
    cores: 0.5, burst_ns: 5e8, debt_ns, refused, refused_dry_run: dry, refused_cpu_ns: refused * 1e6,
      refused_dry_run_cpu_ns: dry * 1e6,
  };
  return { ...account(cpu_ns), limit };
}

test("columns of limits are there where a key has one", () => {
  const columns = (...answers: Status[]) => columnsOf(told(...answers).model.zones.get("z")!).join(" ");
  const before = "cpu share req cpr mb spg fly";
  assert.equal(columns(status(0, { z: { a: account(1) } })), before);
  assert.equal(columns(status(0, { y: { a: limited(1) }, z: { a: account(1) } })), before);
  assert.equal(columns(status(0, { z: { a: account(1), b: limited(1, 9) } })),
    "cpu share lim use ref req cpr mb spg fly");
  assert.equal(columns(status(0, { z: { a: limited(1, 0, 0, 1) } })), "cpu share lim use ref dry req cpr mb spg fly");
});

test("use of a limit is without refused requests", () => {
  const { model } = told(
    status(0, { z: { a: account(0), b: limited(0, 5), c: account(0), d: limited(0) } }),
    status(2000, { z: { a: account(1e9), b: limited(1e9, 105, 0, 50), c: limited(1e9, 7), d: limited(1e9),
      e: limited(5e8, 2) } }),
  );
  const zone = model.zones.get("z")!;
  const { lim, use, ref, dry } = figures(zone, "now");
  assert.deepEqual([...lim], [NaN, 0.5, 0.5, 0.5, 0.5]);
  // of a second, 150 ms are refusals'
  assert.deepEqual([...use].map((part) => +part.toFixed(9)), [NaN, 0.85, NaN, 1, 0.498]);
  assert.deepEqual([...ref], [NaN, 50, NaN, 0, 1], "what was refused before the first answer is in no rate");
  assert.deepEqual([...dry], [NaN, 25, NaN, 0, 0]);
  const all = figures(zone, "total");
  assert.deepEqual([...all.ref], [NaN, 105, 7, 0, 2]);
  assert.deepEqual([...all.use], [...use], "beside totals too");
  assert.deepEqual([...order(zone.totals.keys, all, "ref", true, "")].map((i) => zone.totals.keys[i]).join(""),
    "bceda");
});

test("who is beyond a limit is told, the worst first", () => {
  const { model } = told(
    status(0, { z: { a: limited(0), b: limited(0), c: limited(0), d: limited(0), e: account(0), f: limited(0) } }),
    status(1000, { z: { a: limited(1, 0, 1e9), b: limited(1, 9), c: limited(1), d: limited(1, 0, 2e9), e: account(1),
      f: limited(1, 0, 0, 3) } }),
  );
  const { limited: n, debtors: found } = debtors(model.zones.get("z")!);
  assert.equal(n, 5);
  assert.deepEqual(found.map(({ key, debtNs, refused, dryRun }) => [key, debtNs, refused, dryRun]),
    [["b", 0, 9, 0], ["d", 2e9, 0, 0], ["a", 1e9, 0, 0], ["f", 0, 0, 3]]);
  const none = told(status(0, { z: { a: account(1) } })).model.zones.get("z")!;
  assert.deepEqual(debtors(none), { limited: 0, debtors: [] });
});

test("numbers have three digits, and units", () => {
  const figured = [0, 1e-7, 1.234e-5, 0.00012345, 0.0019, 0.9996, 1, 9.996, 12.34, 99.96, 999.6, 1234567, NaN]
    .map(figure);
  assert.deepEqual(figured,
    ["0", "<0.00001", "0.00001", "0.00012", "0.00190", "1.00", "1.00", "10.0", "12.3", "100", "1,000", "1,234,567",
      "–"]);
  assert.deepEqual([0, 1, 999.4, 999.6, 41234, 999_600, 6.44e6, 4.123e9, 3.6e12].map(duration),
    ["0", "1 ns", "999 ns", "1.00 µs", "41.2 µs", "1.00 ms", "6.44 ms", "4.12 s", "3,600 s"]);
  assert.deepEqual([0, 999, 1500, 3e9, 2.5e13].map(bytes), ["0 B", "999 B", "1.50 kB", "3.00 GB", "25.0 TB"]);
  assert.deepEqual([0, 0.0001, 0.1234, 1].map(percent), ["0.0 %", "<0.1 %", "12.3 %", "100.0 %"]);
  assert.equal(count(12345), "12,345");
});

test("a key is asked for byte by byte", () => {
  assert.equal(keyArgument("a b+c&d=é#"), "a%20b%2Bc%26d%3D%C3%A9%23");
  assert.equal(keyArgument("\\xFFx\\x5C\\x"), "%FFx%5C%5Cx");
  const cut = `\\xFF\\xFF\\...${"0a".repeat(16)}`;
  assert.equal(keyArgument(cut), encodeURIComponent(cut));
});

test("no hidden character of a key is shown", () => {
  assert.equal(visible("a\nb\u202ec\u200d"), "a\\x0Ab\\xE2\\x80\\xAEc\\xE2\\x80\\x8D");
  assert.equal(visible("\u00a0\u3000\u3164\ufe0f\u{e0041}"),
    "\\xC2\\xA0\\xE3\\x80\\x80\\xE3\\x85\\xA4\\xEF\\xB8\\x8F\\xF3\\xA0\\x81\\x81");
  for (const name of ["a b", "例え.jp", "münchen.de", "שלום.example", "مثال.example", "🦀", "\\xFF"]) {
    assert.equal(visible(name), name);
  }
});

test("what is chosen is what the address says", () => {
  const choice = { zone: "ä & b", key: "#=%", sort: "spg", descending: false, search: "x y", span: "total" } as const;
  assert.deepEqual(readChoice(writeChoice(choice), ""), choice);
  const none = { zone: null, key: null, sort: "cpu", descending: true, search: "", span: "now" };
  assert.deepEqual(readChoice("", ""), none);
  assert.deepEqual(readChoice("#sort=no&span=no", ""), none);
  assert.deepEqual(readChoice("", "?zone=z&key=k"), { ...none, zone: "z", key: "k" });
  assert.deepEqual(readChoice("#zone=y", "?zone=z&key=k"), { ...none, zone: "y" });
});
