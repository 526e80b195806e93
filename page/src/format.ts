// Numbers and keys as people read them.

/** What stands where there is no number. */
export const NONE = "–";

const grouped = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

/** Three significant digits, as far as five decimals have them; whole numbers in groups: 0.0123, 1.23, 12.3, 123, 12,345. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.000005) return "<0.00001";
  if (size < 0.9995) return value.toFixed(Math.min(5, 2 - Math.floor(Math.log10(size))));
  if (size < 9.995) return value.toFixed(2);
  if (size < 99.95) return value.toFixed(1);
  return grouped.format(value);
}

/** A whole number, in groups. */
export function count(value: number): string {
  return Number.isFinite(value) ? grouped.format(value) : NONE;
}

/** A time given in nanoseconds, in the unit that fits. */
export function duration(ns: number): string {
  if (!Number.isFinite(ns)) return NONE;
  if (ns === 0) return "0";
  for (const [unit, size] of [["ns", 1], ["µs", 1e3], ["ms", 1e6]] as const) {
    if (ns < 999.5 * size) return `${unit === "ns" ? Math.round(ns) : figure(ns / size)} ${unit}`;
  }
  return `${figure(ns / 1e9)} s`;
}

/** Bytes with decimal units, as in "CPU seconds per GB". */
export function bytes(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  for (const [unit, size] of [["B", 1], ["kB", 1e3], ["MB", 1e6], ["GB", 1e9]] as const) {
    if (value < 999.5 * size) return `${unit === "B" ? Math.round(value) : figure(value / size)} ${unit}`;
  }
  return `${figure(value / 1e12)} TB`;
}

/** A part of a whole. */
export function percent(part: number): string {
  if (!Number.isFinite(part)) return NONE;
  return part !== 0 && Math.abs(part) < 0.0005 ? "<0.1 %" : `${(100 * part).toFixed(1)} %`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Time of the day, of milliseconds since 1970. */
export function timeOfDay(ms: number): string {
  return clock.format(ms);
}

// As accounting/src/key/hidden.rs has them.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/gu;
const utf8 = new TextEncoder();

/**
 * A key as it is shown. The JSON has no hidden characters in keys, but the address of the page, which names a key too, may have
 * any: control characters, those that turn the direction of text around, and invisible ones are written as `\xHH`.
 */
export function visible(key: string): string {
  return key.replace(HIDDEN, (char) =>
    Array.from(utf8.encode(char), (byte) => `\\x${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""));
}

/**
 * A key, as the JSON shows it, for the argument `key`: `\xHH` is a byte, unless the key is shown cut, and looked for by what is
 * shown. The other way round than `display` in accounting/src/key.rs. NGINX takes a plus sign for what it is, so a space has to
 * be %20.
 */
export function keyArgument(key: string): string {
  if (/\\\.\.\.[0-9a-f]{32}$/.test(key)) return encodeURIComponent(key.toWellFormed());
  const pieces = key.split(/\\x([0-9a-fA-F]{2})/);
  return pieces.map((piece, i) => (i % 2 ? `%${piece}` : encodeURIComponent(piece.toWellFormed()))).join("");
}
