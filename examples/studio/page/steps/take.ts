// Step 6: what the run leaves.
import type { Take } from "../../protocol";
import { button, h } from "../dom";
import { download } from "../files";
import type { Step, Studio } from "../studio";

interface Offer {
  readonly what: Take;
  readonly label: string;
  readonly text: string;
}

const OFFERS: readonly Offer[] = [
  {
    what: "adapter",
    label: "Adapter (.zip)",
    text: "The adapter as a PEFT directory, with its model card, report and record: loads in Python PEFT, and in safetape.",
  },
  {
    what: "merged",
    label: "Merged model (.zip)",
    text: "The model with the adapter in its weights, as a Hugging Face directory.",
  },
  {
    what: "gguf",
    label: "GGUF (.gguf)",
    text: "The adapter for llama.cpp: llama-cli -m MODEL.gguf --lora adapter.gguf",
  },
  { what: "report", label: "Report (.html)", text: "Figures and tables of the run, a page without scripts." },
  { what: "record", label: "Record (run.json)", text: "Every number of the run." },
  {
    what: "repeat",
    label: "Programs that repeat the run (.zip)",
    text: "A Node program, a Python program, and the rows that the run learnt from.",
  },
];

/** What has the adapter in it. */
const IS_ADAPTER: readonly Take[] = ["adapter", "merged", "gguf"];

export function takeStep(studio: Studio): Step {
  const items = OFFERS.map((offer) => {
    const take = button(
      offer.label,
      () =>
        void studio.attempt(async () => {
          studio.say(`Making ${offer.label} ...`);
          const file = await studio.client.call("take", offer.what);
          download(file);
          if (IS_ADAPTER.includes(offer.what)) studio.isTaken = true;
          studio.say(`${file.name} is among your downloads.`);
        }),
      { "data-id": offer.what },
    );
    return { offer, take, item: h("li", {}, take, h("p", {}, offer.text)) };
  });
  return {
    name: "take",
    title: "Take away",
    element: h("ul", { class: "plain offers" }, ...items.map(({ item }) => item)),
    isOpen: ({ run }) => run !== undefined,
    update({ data, isBusy }) {
      const { task } = data?.mapping ?? {};
      for (const { offer, take, item } of items) {
        take.disabled = isBusy;
        item.hidden = offer.what === "gguf" && task !== "answer" && task !== "text";
      }
    },
  };
}
