// What is stored in this browser, and the buttons that delete it.
import type { StoredItem } from "../protocol";
import { button, fill, h } from "./dom";
import { bytes } from "./format";
import type { Studio } from "./studio";

export function storagePanel(studio: Studio): HTMLElement {
  const list = h("div", { "aria-live": "polite" });
  const draw = async (items: readonly StoredItem[]): Promise<void> => {
    const { usage = 0, quota } = (await storage()?.estimate()) ?? {};
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
              void studio.attempt(async () => {
                await studio.client.call("remove", name);
                studio.storageChanged();
              });
            }),
            ` ${bytes(size)}`,
          ),
        ),
      ),
      items.length === 0 && h("p", {}, "Nothing."),
    );
  };
  const panel = h("details", { class: "storage" }, h("summary", {}, "Stored in this browser"), list);
  const show = (): void => {
    if (panel.open) void studio.client.call("stored").then(draw);
  };
  panel.addEventListener("toggle", show);
  studio.onStored.push(show);
  studio.showStored = () => {
    panel.open = true;
    panel.querySelector("summary")?.focus();
  };
  return panel;
}

/** The browser's storage. TypeScript declares that of secure pages, which others do not have. */
const storage = (): StorageManager | undefined => (navigator as { readonly storage?: StorageManager }).storage;

/** Asks the browser to keep what is stored where it runs short of space. */
export const persist = async (): Promise<unknown> => storage()?.persist();
