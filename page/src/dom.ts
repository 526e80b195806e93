// Elements. Text is inserted as text, never as markup, since clients choose the keys.

export function byId<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found as T;
}

export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  set: { class?: string; text?: string; title?: string } = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  if (set.class) made.className = set.class;
  if (set.text !== undefined) made.textContent = set.text;
  if (set.title) made.title = set.title;
  made.append(...children);
  return made;
}

/** Sets the text only if it differs, so that unchanged text is neither laid out nor read aloud again. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}
