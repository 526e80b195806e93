// The table of domains. It is virtualised: only visible rows are in the DOM.

import { element, setText } from "./dom.ts";
import { NONE, count, duration, figure, percent, visible } from "./format.ts";
import { type Column, type Figures, type SortBy, type Span } from "./rows.ts";

const ROW_PX = 36;
/** Rows rendered above and below the visible part, so that scrolling shows no gaps. */
const MARGIN = 8;
/** Browsers limit an element's height. Rows beyond this number can only be found by search. */
const MOST_ROWS = 400_000;

interface Heading {
  label: string;
  title: string;
  text: (value: number) => string;
}

const LIMIT = "Cores that the domain is limited to";
const USE = "Cores used between the last two answers, without refused requests, as a part of the limit; red: in debt";

const HEADINGS: Record<Span, Record<Column, Heading>> = {
  now: {
    cpu: { label: "Cores", title: "CPU seconds per second", text: figure },
    share: { label: "Share", title: "Part of the CPU of all keys of the zone", text: percent },
    lim: { label: "Limit", title: LIMIT, text: figure },
    use: { label: "Of limit", title: USE, text: percent },
    ref: { label: "Refused/s", title: "Requests that the limit refused, per second", text: figure },
    dry: { label: "Dry run/s", title: "Requests that a limit with dry_run would have refused, per second",
      text: figure },
    req: { label: "Requests/s", title: "Requests that ended, per second", text: figure },
    cpr: { label: "CPU/request", title: "CPU time per request", text: duration },
    mb: { label: "MB/s", title: "Bytes sent per second, in units of 10⁶", text: figure },
    spg: { label: "CPU s/GB", title: "CPU seconds per 10⁹ bytes sent", text: figure },
    fly: { label: "In flight", title: "Requests that are open", text: count },
  },
  total: {
    cpu: { label: "CPU s", title: "CPU seconds since the counters began", text: figure },
    share: { label: "Share", title: "Part of the CPU of all keys of the zone", text: percent },
    lim: { label: "Limit", title: LIMIT, text: figure },
    use: { label: "Of limit", title: USE, text: percent },
    ref: { label: "Refused", title: "Requests that the limit refused since the counters began", text: count },
    dry: { label: "Dry run", title: "Requests that a limit with dry_run would have refused since the counters began",
      text: count },
    req: { label: "Requests", title: "Requests since the counters began", text: count },
    cpr: { label: "CPU/request", title: "CPU time per request", text: duration },
    mb: { label: "MB", title: "Bytes sent since the counters began, in units of 10⁶", text: figure },
    spg: { label: "CPU s/GB", title: "CPU seconds per 10⁹ bytes sent", text: figure },
    fly: { label: "In flight", title: "Requests that are open", text: count },
  },
};

export interface TableData {
  keys: string[];
  figures: Figures;
  order: Int32Array;
  /** the columns */
  columns: Column[];
  /** keys that exceed their limits */
  debtors: Set<string>;
  span: Span;
  sort: SortBy;
  descending: boolean;
  chosen: string | null;
  colours: Map<string, string>;
}

interface Row {
  tr: HTMLTableRowElement;
  button: HTMLButtonElement;
  dot: HTMLElement;
  name: HTMLElement;
  cells: Map<Column, Text>;
  bar: HTMLElement;
  /** state of a limit's use */
  use: HTMLElement;
  key: string | null;
}

export class Table {
  private data: TableData | null = null;
  private columns: Column[] = [];
  private rows: Row[] = [];
  private first = 0;
  /** the row with the keyboard focus */
  private active: string | null = null;
  private largest = 0;
  private readonly body: HTMLTableSectionElement;
  private readonly before: HTMLTableRowElement;
  private readonly after: HTMLTableRowElement;
  private readonly buttons = new Map<SortBy, HTMLButtonElement>();

  constructor(
    private readonly box: HTMLElement,
    private readonly table: HTMLTableElement,
    private readonly sortBy: (column: SortBy) => void,
    private readonly choose: (key: string) => void,
  ) {
    this.heading("key");
    this.body = table.tBodies[0]!;
    this.before = spacer();
    this.after = spacer();
    this.body.append(this.before, this.after);
    box.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(box);
    table.addEventListener("keydown", (event) => this.keyDown(event));
    this.body.addEventListener("click", (event) => {
      const tr = (event.target as Element).closest("tr");
      const row = this.rows.find((row) => row.tr === tr);
      if (row?.key != null) this.pick(row.key);
    });
  }

  show(data: TableData): void {
    // new figures may have moved the focused row: scroll to it
    const row = this.focused();
    this.data = data;
    if (data.columns.join() !== this.columns.join()) this.setColumns(data.columns);
    const { span, sort, descending, figures, order } = data;
    for (const [column, button] of this.buttons) {
      const heading = column === "key" ? null : HEADINGS[span][column];
      if (heading) {
        setText(button, heading.label);
        button.title = heading.title;
      }
      const state = column === sort ? (descending ? "descending" : "ascending") : "none";
      button.parentElement!.setAttribute("aria-sort", state);
    }
    this.largest = 0;
    for (const place of order) this.largest = Math.max(this.largest, figures.cpu[place] || 0);
    if (this.active === null || !this.isShown(this.active)) this.active = null;
    this.table.setAttribute("aria-rowcount", String(order.length + 1));
    this.draw();
    if (row !== null && this.focused() === null) this.reveal(row);
  }

  /** Restores the keyboard focus to its row, or sets it to the first row. */
  focus(): void {
    const first = this.data?.keys[this.data.order[0] ?? -1];
    const key = this.active ?? first;
    if (key !== undefined) this.reveal(key);
  }

  private isShown(key: string): boolean {
    return this.rowOf(key) >= 0;
  }

  private rowOf(key: string): number {
    const data = this.data;
    if (!data) return -1;
    const near = this.rows.find((row) => row.key === key);
    if (near) {
      const at = this.first + this.rows.indexOf(near);
      if (data.keys[data.order[at] ?? -1] === key) return at;
    }
    return data.order.findIndex((place) => data.keys[place] === key);
  }

  private heading(column: SortBy): void {
    const button = element("button", { text: column === "key" ? "Domain" : "" });
    button.type = "button";
    button.dataset.sort = column;
    button.addEventListener("click", () => this.sortBy(column));
    const th = element("th", { class: column === "key" ? "key" : "" }, button);
    th.scope = "col";
    this.table.tHead!.rows[0]!.append(th);
    this.buttons.set(column, button);
  }

  /** Replaces the columns. A zone without limits has fewer; the first checked request adds those of limits. */
  private setColumns(columns: Column[]): void {
    const now = document.activeElement;
    const focused = [...this.buttons].find(([, button]) => button === now)?.[0];
    this.columns = columns;
    for (const [column, button] of this.buttons) {
      if (column === "key") continue;
      button.parentElement!.remove();
      this.buttons.delete(column);
    }
    for (const column of columns) this.heading(column);
    for (const { tr } of this.rows.splice(0)) tr.remove();
    for (const { cells } of [this.before, this.after]) cells[0]!.colSpan = columns.length + 1;
    this.table.classList.toggle("limits", columns.includes("lim"));
    if (focused !== undefined) this.buttons.get(focused)?.focus({ preventScroll: true });
  }

  private row(): Row {
    const dot = element("span", { class: "dot" });
    const name = element("bdi");
    const button = element("button", { class: "pick" }, dot, name);
    button.type = "button";
    const th = element("th", { class: "key" }, button);
    th.scope = "row";
    const bar = element("span", { class: "bar" }), use = element("span", { class: "bar" });
    const tr = element("tr", {}, th);
    const cells = new Map<Column, Text>();
    for (const column of this.columns) {
      const text = document.createTextNode("");
      const td = element("td");
      if (column === "cpu") td.append(bar);
      if (column === "use") td.append(use);
      td.append(text);
      tr.append(td);
      cells.set(column, text);
    }
    return { tr, button, dot, name, cells, bar, use, key: null };
  }

  private scrolled(): void {
    const first = this.firstRow();
    if (first !== this.first) this.draw();
  }

  private firstRow(): number {
    const n = Math.min(this.data?.order.length ?? 0, MOST_ROWS);
    const first = Math.floor(this.box.scrollTop / ROW_PX) - MARGIN;
    return Math.max(0, Math.min(first, n - this.rows.length));
  }

  private draw(): void {
    const data = this.data;
    if (!data) return;
    const focused = this.focused();
    const n = Math.min(data.order.length, MOST_ROWS);
    const seen = Math.ceil((this.box.clientHeight || ROW_PX * 20) / ROW_PX) + 2 * MARGIN;
    const wanted = Math.min(n, seen);
    while (this.rows.length < wanted) {
      const row = this.row();
      this.rows.push(row);
      this.after.before(row.tr);
    }
    while (this.rows.length > wanted) this.rows.pop()!.tr.remove();

    this.first = this.firstRow();
    pad(this.before, this.first * ROW_PX);
    pad(this.after, (n - this.first - wanted) * ROW_PX);
    this.rows.forEach((row, i) => this.fill(row, data, this.first + i));
    if (focused === null) return;
    // the focus stays with the key, not with the position
    const now = this.rows.find((row) => row.key === focused);
    if (now) now.button.focus({ preventScroll: true });
    else this.table.focus({ preventScroll: true });
  }

  private fill(row: Row, data: TableData, at: number): void {
    const place = data.order[at]!;
    const key = data.keys[place]!;
    if (row.key !== key) {
      row.key = key;
      const shown = visible(key);
      setText(row.name, shown);
      row.button.title = shown;
    }
    row.tr.setAttribute("aria-rowindex", String(at + 2));
    const isChosen = key === data.chosen;
    row.tr.classList.toggle("chosen", isChosen);
    row.button.setAttribute("aria-pressed", String(isChosen));
    row.button.tabIndex = key === (this.active ?? data.keys[data.order[0] ?? -1]) ? 0 : -1;
    row.dot.style.backgroundColor = data.colours.get(key) ?? "transparent";
    for (const column of this.columns) {
      const value = data.figures[column][place]!;
      const text = row.cells.get(column)!;
      const shown = HEADINGS[data.span][column].text(value);
      if (text.data !== shown) text.data = shown;
      text.parentElement!.classList.toggle("none", shown === NONE || value === 0);
    }
    const cpu = data.figures.cpu[place]! || 0;
    row.bar.style.width = `${this.largest > 0 ? (100 * cpu) / this.largest : 0}%`;
    row.use.style.width = `${Math.min(100, 100 * (data.figures.use[place]! || 0))}%`;
    const isDebtor = data.debtors.has(key);
    const cell = row.cells.get("use")?.parentElement;
    cell?.classList.toggle("debt", isDebtor);
    if (cell) cell.title = isDebtor ? "beyond its limit" : "";
  }

  /** The key of the row with the keyboard focus. */
  private focused(): string | null {
    const now = document.activeElement;
    return this.rows.find((row) => row.button === now)?.key ?? null;
  }

  private reveal(key: string): void {
    const at = this.rowOf(key);
    if (at < 0) return;
    this.active = key;
    const head = this.table.tHead!.offsetHeight;
    const top = at * ROW_PX;
    const room = this.box.clientHeight - head;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + ROW_PX > this.box.scrollTop + room) this.box.scrollTop = top + ROW_PX - room;
    this.draw();
    this.rows.find((row) => row.key === key)?.button.focus({ preventScroll: true });
  }

  private pick(key: string): void {
    this.active = key;
    this.choose(key);
  }

  private keyDown(event: KeyboardEvent): void {
    const data = this.data;
    if (!data || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target !== this.table && !(event.target as Element).closest("tbody")) return;
    const n = Math.min(data.order.length, MOST_ROWS);
    if (!n) return;
    const from = this.active === null ? -1 : this.rowOf(this.active);
    const at = from >= 0 ? from : Math.max(0, this.rowOf(this.focused() ?? ""));
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW_PX) - 2);
    const moves: Record<string, number> = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: n - 1,
    };
    const to = moves[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.reveal(data.keys[data.order[Math.max(0, Math.min(n - 1, to))]!]!);
  }
}

function spacer(): HTMLTableRowElement {
  const tr = element("tr", { class: "spacer" }, element("td"));
  tr.setAttribute("aria-hidden", "true");
  return tr;
}

function pad(spacer: HTMLTableRowElement, px: number): void {
  spacer.hidden = px <= 0;
  spacer.style.height = `${Math.max(0, px)}px`;
}
