const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Escapes text for elements and attributes of HTML and SVG. Control characters, which XML cannot contain, are replaced. */
export function escapeText(text: string): string {
  return text
    .replace(/[&<>"']/g, (character) => ENTITIES[character]!)
    .replace(/[^\P{Cc}\t\n\r]|\p{Cs}|[\ufffe\uffff]/gu, "\ufffd");
}

/** Layers as ranges: 0–3, 7. */
export function showLayers(layers: readonly number[]): string {
  const sorted = [...layers].sort((a, b) => a - b);
  const ranges: [number, number][] = [];
  for (const layer of sorted) {
    const last = ranges.at(-1);
    if (last && layer === last[1] + 1) last[1] = layer;
    else ranges.push([layer, layer]);
  }
  return ranges.map(([from, to]) => (from === to ? String(from) : `${from}\u2013${to}`)).join(", ");
}
