// What is stored in this browser, and the buttons that delete it.
import type { StoredItem } from "../protocol";
import { button, fill, h } from "./dom";
import { bytes } from "./format";
import type { Studio } from "./studio";

export function storagePanel(studio: Studio): HTMLElement {
  const list = h("div", { "aria-live": "polite" });
  const draw = async (items: readonly StoredItem[]): Promise<void> => {
    const { usage = 0, quota } = await estimate();
    const rest = quota === undefined ? "" : ` of ${bytes(quota)} that this browser allows`;
    fill(
      list,
      h("p", { class: "quiet" }, `${bytes(usage)}${rest}.`),
      h(
        "ul",
        { class: "plain" },
        ...items.map(({ name, what, bytes: size }) =>
          h(
            "li",
            {},
            button(`Delete ${what}`, () => {
              void studio.attempt(async () => draw(await studio.client.call("remove", name)));
            }),
            ` ${bytes(size)}`,
          ),
        ),
      ),
      items.length === 0 && h("p", {}, "Nothing."),
    );
  };
  const panel = h("details", { class: "storage" }, h("summary", {}, "Stored in this browser"), list);
  panel.addEventListener("toggle", () => {
    if (panel.open) void studio.client.call("stored").then(draw);
  });
  return panel;
}

async function estimate(): Promise<StorageEstimate> {
  // TypeScript declares the storage of secure pages, which others do not have.
  const { storage } = navigator as { readonly storage?: StorageManager };
  return (await storage?.estimate()) ?? {};
}
