// Step 3: how it learns, and what that needs, before anything is loaded.
import type { PlanFacts, PlanForm } from "../../protocol";
import { StudioError } from "../client";
import { bar, button, choice, field, fill, h, table, tiles } from "../dom";
import type { Choices } from "../dom";
import { bytes, count, LIFETIME_WORDS, LIFETIMES, seconds } from "../format";
import type { Step, Studio } from "../studio";

type NumberKey = "rank" | "batch" | "length" | "epochs" | "learningRate" | "microBatch" | "seed";
type WordKey = "adapter" | "targets" | "freeze" | "weights" | "activations" | "recompute";

const WORDS: Readonly<Record<WordKey, readonly [label: string, options: Choices, hint?: string]>> = {
  adapter: [
    "Adapter",
    [
      ["lora", "LoRA"],
      ["dora", "DoRA"],
    ],
  ],
  targets: [
    "Adapted projections",
    [
      ["usual", "the usual ones"],
      ["all-linear", "all of the layers"],
    ],
  ],
  freeze: [
    "Freezing",
    [
      ["safe", "SAFE"],
      ["never", "none"],
    ],
    "SAFE freezes layers that have settled. They give their memory back.",
  ],
  weights: [
    "Frozen weights stored as",
    [
      ["f32", "f32"],
      ["f16", "f16"],
      ["bf16", "bf16"],
      ["int8", "int8"],
      ["nf4", "NF4"],
    ],
  ],
  activations: [
    "Kept activations stored as",
    [
      ["f32", "f32"],
      ["f16", "f16"],
      ["bf16", "bf16"],
    ],
  ],
  recompute: [
    "Computed twice instead of kept",
    [
      ["none", "nothing"],
      ["mlp", "feed-forwards"],
      ["layers", "whole layers"],
    ],
  ],
};

export function planStep(studio: Studio): Step {
  const controls = h("div", { class: "grid" });
  const facts = h("div", { "aria-live": "polite" });
  const layers = h("div");
  const budget = h("input", { type: "number", min: "0.0001", step: "any", value: "4" });
  const next = button("Train", () => studio.go("train"), { class: "primary", disabled: true });
  let drawn: PlanForm | undefined;
  let drawnPlan: PlanFacts | undefined;
  /** The newest form waits here while an older one is planned. */
  let waiting: PlanForm | undefined;
  let isPlanning = false;

  /** Plans the newest form. Sliders give many, of which those in between are left out. */
  async function replan(form: PlanForm): Promise<void> {
    waiting = form;
    if (isPlanning) return;
    isPlanning = true;
    while (waiting) {
      const planned = waiting;
      waiting = undefined;
      try {
        const plan = await studio.client.call("plan", planned);
        if (studio.form === planned) studio.plan = plan;
        fill(studio.faults);
      } catch (error) {
        if (!(error instanceof StudioError)) throw error;
        studio.plan = undefined;
        studio.showFault(error);
      }
    }
    isPlanning = false;
    studio.onChange();
  }

  const set = (form: PlanForm): void => {
    studio.form = form;
    void replan(form);
  };
  const change = (part: Partial<PlanForm>): void => {
    if (!studio.form) return;
    // The controls show it already: drawing them again would take the focus away.
    drawn = { ...studio.form, ...part };
    set(drawn);
  };

  const fit = (): void => {
    const { form } = studio;
    if (!form) return;
    const bytesOf = Number(budget.value) * 1e9;
    void studio.attempt(
      async () => {
        set(await studio.client.call("fit", form, bytesOf));
        studio.say(`The plan fits into ${bytes(bytesOf)}.`);
      },
      // The smallest budget that would do is the first number of the remedy.
      ({ fault }) => {
        const least = /Give at least (\d+) bytes/.exec(fault.remedy)?.[1];
        if (least === undefined) return [];
        const enough = Math.ceil(Number(least) / 1e6) / 1000;
        const retry = (): void => {
          budget.value = String(enough);
          fit();
        };
        return [button(`Use ${enough} GB`, retry)];
      },
    );
  };
  const measure = (): void => {
    const { form } = studio;
    if (!form) return;
    void studio.attempt(async () => {
      await studio.client.call("measure", form);
      studio.plan = await studio.client.call("plan", form);
      studio.say("Measured: a few steps of the run itself, which were thrown away.");
    });
  };

  const fitting = h(
    "form",
    { class: "row" },
    field("GPU memory to fit into, in GB", budget, "Browsers do not say how much a GPU has."),
    h("button", { type: "submit" }, "Fit to my GPU"),
    button("Measure the time", measure),
  );
  fitting.addEventListener("submit", (event) => {
    event.preventDefault();
    fit();
  });
  const element = h("div", {}, controls, fitting, facts, layers, h("p", { class: "buttons" }, next));

  function drawControls(form: PlanForm): void {
    drawn = form;
    const { data } = studio;
    const number = (label: string, key: NumberKey, least: number, most: number, step: number, hint?: string) => {
      const value = h("output", {}, String(form[key]));
      const slider = h("input", { type: "range", min: least, max: most, step, value: form[key] });
      slider.addEventListener("input", () => {
        value.textContent = slider.value;
        change({ [key]: Number(slider.value) });
      });
      const box = field(label, slider, hint);
      box.querySelector("label")!.append(" ", value);
      return box;
    };
    const words = (key: WordKey): HTMLElement => {
      const [label, options, hint] = WORDS[key];
      return field(
        label,
        choice(options, form[key], (value) => change({ [key]: value })),
        hint,
      );
    };
    const rate = h("input", { type: "number", min: "0.000001", max: "1", step: "any", value: form.learningRate });
    rate.addEventListener("change", () => {
      if (Number(rate.value) > 0) change({ learningRate: Number(rate.value) });
    });
    const isImages = data?.mapping.task === "images";
    fill(
      controls,
      number("Rows of a batch", "batch", 1, Math.min(64, Math.max(1, data?.train ?? 64)), 1),
      !isImages &&
        number(
          "Longest row in tokens",
          "length",
          Math.min(8, form.length),
          Math.max(form.length, data?.mostLength ?? 8),
          1,
          "Longer rows are cut.",
        ),
      number("Rank", "rank", 1, 64, 1),
      number("Epochs", "epochs", 1, 20, 1),
      field("Learning rate", rate),
      number("Rows at the same time", "microBatch", 0, form.batch, 1, "0: the complete batch."),
      ...(["adapter", "targets", "freeze", "weights", "activations", "recompute"] as const).map(words),
    );
  }

  return {
    name: "plan",
    title: "Plan",
    element,
    isOpen: ({ data }) => data !== undefined,
    show() {
      if (studio.form) return;
      void studio.attempt(async () => set(await studio.client.call("firstForm")));
    },
    update({ form, plan, isBusy }) {
      next.disabled = !plan || isBusy;
      if (form && !isSame(form, drawn)) drawControls(form);
      if (plan === drawnPlan) return;
      drawnPlan = plan;
      fill(facts, ...(plan ? factsOf(plan) : []));
      fill(layers, ...(plan ? layersOf(plan) : []));
    },
  };
}

const isSame = (a: PlanForm, b: PlanForm | undefined): boolean =>
  b !== undefined && JSON.stringify(a) === JSON.stringify(b);

function factsOf({ peakBytes, bytes: all, trainable, totalSteps, seconds: time, peakAt }: PlanFacts): Node[] {
  const parts = LIFETIMES.map((name) => ({ name, value: all[name] }));
  const described = LIFETIMES.map((name) => `${LIFETIME_WORDS[name]} ${bytes(all[name])}`).join(", ");
  return [
    h("h3", {}, `GPU memory of a step: ${bytes(peakBytes)}`),
    bar(parts, peakBytes, described),
    h(
      "ul",
      { class: "legend" },
      ...LIFETIMES.map((name) =>
        h("li", {}, h("span", { class: `key ${name}` }), `${LIFETIME_WORDS[name]} ${bytes(all[name])}`),
      ),
    ),
    tiles([
      ["parameters that learn", count(trainable)],
      ["steps", String(totalSteps)],
      ["expected time", time === undefined ? "not measured yet" : seconds(time)],
      ["the peak is at the", peakAt],
    ]),
  ];
}

/** A live picture of the layers: what each keeps, and for which gradients. */
function layersOf({ parts, frozen }: PlanFacts): Node[] {
  const most = Math.max(1, ...parts.map((part) => part.bytes));
  const rows = parts.map((part) =>
    h(
      "details",
      { class: "layer" },
      h(
        "summary",
        {},
        h("span", { class: "layer-name" }, part.name),
        bar([{ name: "saved", value: part.bytes }], most, `${part.name} keeps ${bytes(part.bytes)}`),
        h("span", { class: "layer-bytes" }, bytes(part.bytes)),
      ),
      table(
        `What ${part.name} keeps`,
        ["bytes", "value", "for"],
        part.values.map(({ what, bytes: size, keptFor }) => [bytes(size), what, keptFor.join(", ")]),
        [0],
      ),
    ),
  );
  return [
    h("h3", {}, "What each layer keeps for the backward pass, and for whom"),
    h("div", { class: "layers" }, ...rows),
    table(
      "The peak once all adapters below a layer are frozen",
      ["below layer", "peak"],
      frozen.map(({ below, peakBytes }) => [String(below), bytes(peakBytes)]),
      [0, 1],
    ),
  ];
}
