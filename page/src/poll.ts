// Polls the status endpoint: one request at a time, at an interval. The interval grows while requests fail.

import type { Status } from "./model.ts";
import { keyArgument } from "./format.ts";

/** A request is aborted after this time. */
const PATIENCE_MS = 30_000;
const LONGEST_WAIT_MS = 30_000;
const SOON_MS = 1000;

/** The endpoint sent an answer that is not the status document. */
export class Refused extends Error {
  constructor(readonly code: number, message: string) {
    super(message);
  }
}

/** The accounts to request. */
export interface Query {
  zone?: string;
  key?: string;
  detail: "low" | "full";
}

/** Passes on the arguments of the page's own address that the endpoint does not use, for example a token. */
function address({ zone, key, detail }: Query): string {
  const own = ["format", "detail", "zone", "key", "asset"];
  const others = location.search.slice(1).split("&").filter((argument) => {
    return argument !== "" && !own.includes(argument.split("=", 1)[0]!.toLowerCase());
  });
  const asked = [`format=json`, `detail=${detail}`];
  if (zone !== undefined) asked.push(`zone=${keyArgument(zone)}`);
  if (key !== undefined) asked.push(`key=${keyArgument(key)}`);
  return `${location.pathname}?${[...others, ...asked].join("&")}`;
}

export async function ask(query: Query, signal: AbortSignal): Promise<Status> {
  const answer = await fetch(address(query), {
    signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]),
    headers: { Accept: "application/json" },
    cache: "no-store",
    credentials: "same-origin",
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    const why = typeof told?.error === "string" ? `: ${told.error}` : "";
    throw new Refused(answer.status, `the server answers ${answer.status}${why}`);
  }
  const status = await answer.json();
  if (typeof status?.time !== "string" || !Array.isArray(status.workers) || typeof status.zones !== "object") {
    throw new Refused(answer.status, "the server's answer is not the status");
  }
  return status;
}

export function reason(error: unknown): string {
  if (error instanceof Refused) return error.message;
  if (error instanceof DOMException && error.name === "TimeoutError") return `no answer within ${PATIENCE_MS / 1000} s`;
  if (error instanceof SyntaxError) return "the answer was cut short";
  return "the server cannot be reached";
}

/** Runs a task repeatedly. Two runs never overlap. */
export class Poller {
  /** consecutive failures */
  failures = 0;
  /** start of the next run, in milliseconds of performance.now() */
  next = 0;
  /** start the next run as soon as possible, whatever the interval */
  isUrgent = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private running: AbortController | null = null;
  private stopped = true;
  private again = false;

  constructor(
    private readonly task: (signal: AbortSignal) => Promise<void>,
    private readonly failed: (error: unknown) => void,
    public intervalMs: number,
  ) {}

  /** Starts a run at once, or as soon as the current run ends. */
  start(): void {
    this.stopped = false;
    clearTimeout(this.timer);
    if (this.running) this.again = true;
    else void this.run();
  }

  /** Stops, and aborts the current run. */
  stop(): void {
    this.stopped = true;
    this.again = false;
    clearTimeout(this.timer);
    this.running?.abort();
  }

  private async run(): Promise<void> {
    const begin = performance.now();
    const control = (this.running = new AbortController());
    try {
      await this.task(control.signal);
      this.failures = 0;
    } catch (error) {
      if (!control.signal.aborted) {
        this.failures++;
        this.failed(error);
      }
    }
    this.running = null;
    if (this.stopped) return;
    const took = performance.now() - begin;
    const interval = this.isUrgent ? Math.min(this.intervalMs, SOON_MS) : this.intervalMs;
    this.wait(
      this.again ? 0
      : this.failures ? Math.min(LONGEST_WAIT_MS, 1000 * 2 ** Math.min(this.failures - 1, 10))
      // a slow answer lengthens the interval: the server is idle for at least half of the time
      : Math.max(interval - took, took, 50),
    );
    this.again = this.isUrgent = false;
  }

  private wait(ms: number): void {
    this.next = performance.now() + ms;
    this.timer = setTimeout(() => void this.run(), ms);
  }
}
