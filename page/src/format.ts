// Formats numbers and keys for people.

/** Shown in place of a missing number. */
export const NONE = "–";

const grouped = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

/** Three significant digits, at most five decimals; whole numbers in groups: 0.0123, 1.23, 12.3, 123, 12,345. */
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

/** A whole number, digits in groups. */
export function count(value: number): string {
  return Number.isFinite(value) ? grouped.format(value) : NONE;
}

/** A duration in nanoseconds, shown in a fitting unit. */
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

/** A fraction, shown in percent. */
export function percent(part: number): string {
  if (!Number.isFinite(part)) return NONE;
  return part !== 0 && Math.abs(part) < 0.0005 ? "<0.1 %" : `${(100 * part).toFixed(1)} %`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Time of day; the argument is in milliseconds since 1970. */
export function timeOfDay(ms: number): string {
  return clock.format(ms);
}

// The same list as in accounting/src/key/hidden.rs.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/gu;
const utf8 = new TextEncoder();

/**
 * A key for display. Control characters, invisible characters and those that change the direction of text are
 * written as `\xHH`. The JSON has none of them in keys, but the page's address may have any.
 */
export function visible(key: string): string {
  return key.replace(HIDDEN, (char) =>
    Array.from(utf8.encode(char), (byte) => `\\x${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""));
}

/**
 * The argument `key` for a key of the JSON. `\xHH` is one byte, unless the key is shown shortened: then the shown
 * text is the argument. This is the inverse of `display` in accounting/src/key.rs. NGINX does not decode a plus
 * sign, so a space is %20.
 */
export function keyArgument(key: string): string {
  if (/\\\.\.\.[0-9a-f]{32}$/.test(key)) return encodeURIComponent(key.toWellFormed());
  const pieces = key.split(/\\x([0-9a-fA-F]{2})/);
  return pieces.map((piece, i) => (i % 2 ? `%${piece}` : encodeURIComponent(piece.toWellFormed()))).join("");
}
