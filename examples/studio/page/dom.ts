// Elements of the page. Everything that a file contains becomes text, never markup.

type Child = Node | string | undefined | false;
type Property = string | number | boolean | ((event: Event) => void) | undefined;

/** A new element. Properties that begin with "on" are listeners, truths are attributes without a value, others are attributes. */
export function h<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Readonly<Record<string, Property>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  fill(element, ...children);
  return element;
}

/** Puts children in place of those that an element has. */
export function fill(element: Element, ...children: readonly Child[]): void {
  element.replaceChildren(...children.filter((child) => child !== undefined && child !== false));
}

let lastId = 0;

/** A labelled control. */
export function field(label: string, control: HTMLElement, hint?: string): HTMLElement {
  const id = `field-${++lastId}`;
  control.id = id;
  if (hint !== undefined) control.setAttribute("aria-describedby", `${id}-hint`);
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    control,
    hint !== undefined && h("small", { id: `${id}-hint` }, hint),
  );
}

export type Choices = readonly (readonly [value: string, label: string])[];

/** A list to choose from. */
export function choice(options: Choices, value: string, onchange: (value: string) => void): HTMLSelectElement {
  const select = h("select", { onchange: () => onchange(select.value) });
  setChoices(select, options, value);
  return select;
}

/** Puts other options into a list. */
export function setChoices(select: HTMLSelectElement, options: Choices, value: string): void {
  fill(select, ...options.map(([key, label]) => h("option", { value: key }, label)));
  select.value = value;
}

/** A button. */
export const button = (label: string, onclick: () => void, properties: Readonly<Record<string, Property>> = {}) =>
  h("button", { type: "button", onclick, ...properties }, label);

/** A table with a caption. Columns of numbers are on the right. */
export function table(
  caption: string,
  head: readonly string[],
  rows: readonly (readonly (string | Node)[])[],
  numbers: readonly number[] = [],
): HTMLElement {
  const ofColumn = (column: number) => (numbers.includes(column) ? { class: "number" } : {});
  return h(
    "div",
    { class: "wide", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, ...head.map((title, i) => h("th", { scope: "col", ...ofColumn(i) }, title)))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((cell, i) => h("td", ofColumn(i), cell))))),
    ),
  );
}

/** Names and values, as tiles. */
export function tiles(facts: readonly (readonly [string, string])[]): HTMLElement {
  return h(
    "dl",
    { class: "tiles" },
    ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** A horizontal bar of several parts, each a share of `total`, with its description for those who do not see it. */
export function bar(
  parts: readonly { readonly name: string; readonly value: number }[],
  total: number,
  description: string,
): HTMLElement {
  const box = h("div", { class: "bar", role: "img", "aria-label": description });
  for (const { name, value } of parts) {
    const part = h("span", { class: name });
    part.style.width = `${total > 0 ? (100 * value) / total : 0}%`;
    box.append(part);
  }
  return box;
}

/** Inserts a figure. Its scripts, if a file could put any there, would not run: parsed elements are inert, and the policy forbids them. */
export function showPicture(place: Element, svg: string): void {
  const { documentElement } = new DOMParser().parseFromString(svg, "image/svg+xml");
  // The figure is one image with a title and a description: its parts have no roles, and must have no names.
  for (const part of documentElement.querySelectorAll("[aria-label], [aria-description]")) {
    part.removeAttribute("aria-label");
    part.removeAttribute("aria-description");
  }
  place.replaceChildren(document.adoptNode(documentElement));
}
