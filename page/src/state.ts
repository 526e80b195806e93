// The viewer's choices. Those in the page's address can be sent to others; the browser keeps the rest.

import { COLUMNS, type SortBy, type Span } from "./rows.ts";

export interface Choice {
  zone: string | null;
  key: string | null;
  sort: SortBy;
  descending: boolean;
  search: string;
  span: Span;
}

/** Reads the fragment of the page's address. The arguments `zone` and `key` of the address are the default. */
export function readChoice(hash: string, query: string): Choice {
  const chosen = new URLSearchParams(hash.replace(/^#/, ""));
  const asked = new URLSearchParams(query);
  const sort = chosen.get("sort") ?? "";
  const known = sort === "key" || (COLUMNS as readonly string[]).includes(sort);
  return {
    zone: chosen.get("zone") ?? asked.get("zone"),
    key: chosen.has("zone") ? chosen.get("key") : chosen.get("key") ?? asked.get("key"),
    sort: known ? (sort as SortBy) : "cpu",
    descending: chosen.has("dir") ? chosen.get("dir") !== "asc" : sort !== "key",
    search: chosen.get("q") ?? "",
    span: chosen.get("span") === "total" ? "total" : "now",
  };
}

export function writeChoice(choice: Choice): string {
  const hash = new URLSearchParams();
  if (choice.zone !== null) hash.set("zone", choice.zone);
  hash.set("sort", choice.sort);
  hash.set("dir", choice.descending ? "desc" : "asc");
  if (choice.span !== "now") hash.set("span", choice.span);
  if (choice.search) hash.set("q", choice.search);
  if (choice.key !== null) hash.set("key", choice.key);
  return `#${hash}`;
}

/** Preferences kept by the browser. A browser may refuse to keep them, so nothing depends on them. */
export function remembered(name: string): string | null {
  try {
    return localStorage.getItem(`request-cpu-${name}`);
  } catch {
    return null;
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`request-cpu-${name}`, value);
  } catch {
    // not kept
  }
}
