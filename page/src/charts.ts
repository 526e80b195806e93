// Charts over time and bar charts, drawn by uPlot.

import uPlot from "uplot";
import { element, setText } from "./dom.ts";
import { count, figure, timeOfDay } from "./format.ts";

/** Shortest and longest time span of a chart, in seconds. */
const LEAST_SPAN = 60;
const MOST_SPAN = 600;

const PALETTE = {
  light: ["#2f6fde", "#e8710a", "#12998a", "#a142c4", "#c99700", "#d6336c", "#5f8d1f", "#0b8bb8"],
  dark: ["#6ea0ff", "#ff9c4a", "#35c9b5", "#cf8cf0", "#f0c64a", "#ff7fa8", "#9ccc5a", "#4fc3ea"],
};
const GREY = { light: "#a3acb9", dark: "#6a7485" };
const LINES = { light: { grid: "#e6e9ee", text: "#5b6675" }, dark: { grid: "#2b323d", text: "#9aa5b4" } };

export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const theme = () => (isDark() ? "dark" : "light");
/** A colour by its number; without a number, the colour of all other domains. */
export const colour = (n: number | null) => (n === null ? GREY[theme()] : PALETTE[theme()][n % 8]!);

/** Gives each key a colour. A key keeps its colour while it is among the largest. */
export class Colours {
  private readonly given = new Map<string, number>();

  assign(keys: string[]): void {
    for (const key of this.given.keys()) if (!keys.includes(key)) this.given.delete(key);
    for (const key of keys) {
      if (this.given.has(key)) continue;
      const used = new Set(this.given.values());
      this.given.set(key, [0, 1, 2, 3, 4, 5, 6, 7].find((n) => !used.has(n)) ?? 0);
    }
  }

  all(): Map<string, string> {
    return new Map([...this.given].map(([key, n]) => [key, colour(n)]));
  }
}

export interface Layer {
  name: string;
  colour: string;
  /** one value per time; null if there is no value */
  values: (number | null)[];
  title?: string;
  /** called when the name is clicked */
  pick?: (() => void) | undefined;
}

const FONT = "12px system-ui, sans-serif";

function axes(): { grid: uPlot.Axis.Grid; stroke: string; ticks: uPlot.Axis.Ticks; font: string } {
  const { grid, text } = LINES[theme()];
  return { grid: { stroke: grid, width: 1 }, stroke: text, ticks: { show: false }, font: FONT };
}

/** A stacked chart over time, with names and figures below it. */
export class StackedChart {
  private plot: uPlot | null = null;
  private shape = "";
  private times: number[] = [];
  private layers: Layer[] = [];
  private readonly canvas: HTMLElement;
  private readonly when: HTMLElement;
  private readonly names: HTMLElement;

  constructor(
    box: HTMLElement,
    private readonly what: string,
    private readonly unit = "cores",
  ) {
    this.canvas = element("div", { class: "plot" });
    this.canvas.setAttribute("role", "img");
    this.when = element("p", { class: "when" });
    this.names = element("ul", { class: "legend" });
    box.append(this.canvas, this.when, this.names);
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  show(times: number[], layers: Layer[]): void {
    this.times = times;
    this.layers = layers;
    const shape = JSON.stringify([theme(), layers.map((layer) => [layer.name, layer.colour])]);
    if (!this.plot || shape !== this.shape) {
      this.shape = shape;
      this.plot?.destroy();
      this.plot = new uPlot(this.options(), this.stacked(), this.canvas);
      this.legend();
    } else {
      this.plot.setData(this.stacked());
    }
    this.figures(this.plot.cursor.idx ?? null);
    this.canvas.setAttribute("aria-label", this.told());
  }

  /** The description for screen readers. */
  private told(): string {
    const at = this.latest();
    if (at < 0) return `${this.what}: no data yet`;
    const now = this.layers.map((layer) => `${layer.name} ${figure(layer.values[at]!)}`).join(", ");
    return `${this.what}, in ${this.unit}, from ${timeOfDay(this.times[0]! * 1000)} to ${timeOfDay(this.times[at]! * 1000)}. Now: ${now}`;
  }

  private stacked(): uPlot.AlignedData {
    const sums: (number | null)[] = this.times.map(() => 0);
    const data = this.layers.map((layer) => layer.values.map((value, i) => {
      const sum = sums[i];
      return (sums[i] = value === null || sum == null ? null : sum + value);
    }));
    return [this.times, ...data];
  }

  private options(): uPlot.Options {
    const { width, height } = this.size();
    return {
      width,
      height,
      padding: [8, 26, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
      scales: {
        x: { range: (_, min, max) => [Math.max(max - MOST_SPAN, Math.min(min, max - LEAST_SPAN)), max] },
        y: { range: (_, __, max) => [0, Math.max((max || 0) * 1.08, 0.001)] },
      },
      axes: [
        { ...axes(), values: (_, ticks) => ticks.map((tick) => timeOfDay(tick * 1000).slice(0, tick % 60 ? 8 : 5)),
          space: 70, size: 28 },
        { ...axes(), values: (_, ticks) => ticks.map((tick) => String(+tick.toPrecision(6))), size: 54 },
      ],
      series: [
        {},
        ...this.layers.map((layer) => ({
          // no line: it would be visible for a layer of zero
          fill: `${layer.colour}d8`,
          width: 0,
          points: { show: false },
        })),
      ],
      bands: this.layers.slice(1).map((_, i) => ({ series: [i + 2, i + 1] as [number, number] })),
      hooks: { setCursor: [(plot) => this.figures(plot.cursor.idx ?? null)] },
    };
  }

  private legend(): void {
    this.names.replaceChildren(...this.layers.map((layer, i) => {
      const swatch = element("span", { class: "swatch" });
      swatch.style.backgroundColor = layer.colour;
      const name = element("bdi", { class: "name", text: layer.name });
      const value = element("span", { class: "value" });
      if (!layer.pick) return element("li", { title: layer.title ?? layer.name }, swatch, name, value);
      const button = element("button", { title: layer.title ?? layer.name }, swatch, name, value);
      button.type = "button";
      button.addEventListener("click", () => this.layers[i]?.pick?.());
      return element("li", {}, button);
    }));
  }

  /** The index of the last time with a value, or -1. */
  private latest(): number {
    return this.layers[0]?.values.findLastIndex((value) => value !== null) ?? -1;
  }

  /** Shows the figures of the time under the pointer, or of the last time. */
  private figures(pointed: number | null): void {
    const at = pointed ?? this.latest();
    const values = this.names.querySelectorAll(".value");
    let sum: number | null = 0;
    this.layers.forEach((layer, i) => {
      const value = layer.values[at] ?? null;
      sum = value === null || sum === null ? null : sum + value;
      setText(values[i]!, value === null ? "–" : figure(value));
    });
    const time = this.times[at];
    const when = at === this.times.length - 1 || time === undefined ? "" : ` at ${timeOfDay(time * 1000)}`;
    const none = pointed === null ? "no data yet" : `no data${when}`;
    setText(this.when, sum === null || time === undefined ? none : `${figure(sum)} ${this.unit}${when}`);
  }

  private size(): { width: number; height: number } {
    return { width: Math.max(this.canvas.clientWidth, 100), height: Math.max(this.canvas.clientHeight, 60) };
  }

  private resize(): void {
    this.plot?.setSize(this.size());
  }
}

/** A bar chart, with a name below each bar. */
export class BarChart {
  private plot: uPlot | null = null;
  private shape = "";
  private names: string[] = [];

  constructor(private readonly canvas: HTMLElement) {
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(canvas);
  }

  show(names: string[], values: number[]): void {
    const shape = JSON.stringify([theme(), names]);
    this.names = names;
    const data: uPlot.AlignedData = [names.map((_, i) => i), values];
    if (!this.plot || shape !== this.shape) {
      this.shape = shape;
      this.plot?.destroy();
      this.plot = new uPlot(this.options(), data, this.canvas);
    } else {
      this.plot.setData(data);
    }
  }

  private options(): uPlot.Options {
    return {
      ...this.size(),
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: false, range: () => [-0.6, Math.max(this.names.length, 4) - 0.4] },
        y: { range: (_, __, max) => [0, Math.max((max || 0) * 1.08, 1)] },
      },
      axes: [
        { ...axes(), grid: { show: false }, size: 28, incrs: [1, 2, 3, 4, 5], space: 52,
          values: (_, ticks) => ticks.map((i) => this.names[i] ?? "") },
        { ...axes(), values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? count(tick) : "")), size: 54 },
      ],
      series: [
        {},
        { fill: colour(0), width: 0, points: { show: false },
          paths: uPlot.paths.bars!({ size: [0.8, 60], radius: 0.12 }) },
      ],
    };
  }

  private size(): { width: number; height: number } {
    return { width: Math.max(this.canvas.clientWidth, 100), height: Math.max(this.canvas.clientHeight, 60) };
  }
}
