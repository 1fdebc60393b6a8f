// Step 4: the run.
import type { GivenFile, Picture, RunFacts, StoredRun, StudioEvent } from "../../protocol";
import { bar, button, fill, h, showPicture, tiles } from "../dom";
import { dropZone } from "../files";
import { bytes, LIFETIME_WORDS, LIFETIMES, metric, seconds, sumOf } from "../format";
import type { Step, Studio } from "../studio";
import { togetherForm } from "./together";

/** How far the run is. */
type State = "idle" | "running" | "paused";

export function trainStep(studio: Studio): Step {
  let state: State = "idle";
  const numbers = h("div");
  const notices = h("ul", { class: "notices", "aria-live": "polite" });
  const progress = h("progress", { max: 1, value: 0, "aria-label": "Steps of the run" });
  const pictures = h("div", { class: "pictures" });
  const places = new Map<string, HTMLElement>();
  const start = button("Start training", () => void begin(), { class: "primary", "data-id": "start" });
  const pause = button("Pause", () => toggle(), { "data-id": "pause" });
  const stop = button("Stop and keep", () => void studio.client.call("stop"), { "data-id": "stop" });
  const goOn = button("Go on from here", () => void continueRun(), { "data-id": "go-on" });
  const together = togetherForm();
  const next = button("Next: try it", () => studio.go("try"), { class: "primary" });
  const element = h(
    "div",
    {},
    h(
      "p",
      {},
      "Training runs in a worker: this page may be hidden meanwhile. The run is saved in this browser every few seconds.",
    ),
    together.element,
    h("p", { class: "buttons" }, start, pause, stop, goOn, next),
    progress,
    numbers,
    notices,
    pictures,
  );

  async function begin(): Promise<void> {
    const { form } = studio;
    if (!form || !studio.mayReplaceRun()) return;
    const asked = together.asked();
    await work(() => (asked ? studio.client.call("train", form, asked) : studio.client.call("train", form)));
  }

  /** Runs until the end, and shows what came of it. */
  async function work(train: () => Promise<RunFacts>): Promise<void> {
    const isDone = await studio.attempt(
      async () => {
        for (const place of [notices, pictures, numbers, studio.offer]) fill(place);
        places.clear();
        waiting.clear();
        progress.value = 0;
        [studio.run, studio.isTaken] = [undefined, false];
        state = "running";
        draw();
        try {
          studio.run = await train();
          studio.say(outcomeOf(studio.run));
        } finally {
          state = "idle";
        }
      },
      ({ fault }) => (IS_MEMORY.includes(fault.name) ? [button("Plan a smaller run", () => studio.go("plan"))] : []),
    );
    studio.storageChanged();
    if (!isDone && !studio.isBusy) await offerStored();
  }

  async function continueRun(files?: readonly GivenFile[]): Promise<void> {
    await work(async () => {
      const run = await (files ? studio.client.call("continueRun", files) : studio.client.call("continueRun"));
      const { model, data, form } = await studio.client.call("opened");
      [studio.model, studio.data, studio.form] = [model, data, form];
      studio.plan = await studio.client.call("plan", form);
      return run;
    });
  }

  function toggle(): void {
    state = state === "paused" ? "running" : "paused";
    void studio.client.call(state === "paused" ? "pause" : "resume");
    draw();
  }

  function draw(): void {
    start.disabled = state !== "idle" || !studio.plan || studio.isBusy;
    start.textContent = studio.run ? "Train again" : "Start training";
    pause.disabled = stop.disabled = state === "idle";
    pause.textContent = state === "paused" ? "Go on" : "Pause";
    goOn.hidden = state !== "idle" || !studio.run || studio.run.hasEnded;
    goOn.disabled = studio.isBusy;
    next.disabled = !studio.run;
  }

  function receive(event: StudioEvent): void {
    if (event.type === "notice")
      notices.append(h("li", {}, event.text, " ", event.isStorageFull === true && studio.storedButton()));
    if (event.type === "picture") queue(event.picture);
    if (event.type === "evaluated") {
      const words = Object.entries(event.metrics).map(([name, value]) => `${name} ${metric(name, value)}`);
      notices.append(h("li", {}, `Step ${event.step}: ${words.join(", ")}`));
    }
    if (event.type !== "step") return;
    const { step, totalSteps, loss, examplesPerSecond, bytes: all, left, horizon } = event;
    progress.max = totalSteps;
    progress.value = step;
    const described = LIFETIMES.map((name) => `${LIFETIME_WORDS[name]} ${bytes(all[name])}`).join(", ");
    fill(
      numbers,
      tiles([
        ["step", `${step} of ${totalSteps}`],
        ["loss", loss.toFixed(4)],
        ["rows a second", examplesPerSecond.toFixed(0)],
        ["left", step === totalSteps ? "done" : seconds(left)],
        ["GPU memory", bytes(sumOf(all))],
        ["lowest layer that learns", horizon === undefined ? "none: all adapters are frozen" : String(horizon)],
      ]),
      bar(
        LIFETIMES.map((name) => ({ name, value: all[name] })),
        sumOf(all),
        described,
      ),
    );
  }

  /** Figures that wait for a frame of their own, so that none of the page's tasks is long. */
  const waiting = new Map<string, Picture>();

  function queue(picture: Picture): void {
    if (waiting.size === 0) requestAnimationFrame(showNext);
    waiting.set(picture.name, picture);
  }

  function showNext(): void {
    const [next] = waiting.values();
    if (!next) return;
    waiting.delete(next.name);
    showPictureOf(next);
    if (waiting.size > 0) requestAnimationFrame(showNext);
  }

  function showPictureOf({ name, title, svg, caption }: Picture): void {
    const known = places.get(name);
    const place = known ?? h("div", { class: "picture" });
    if (!known) {
      places.set(name, place);
      const drawn = h("figure", {}, h("h3", {}, title), place, h("figcaption", {}, caption));
      // The map of the adapters, which is there once a policy has scored them, has its place as in the report.
      const before = name === "adapters" ? places.get("memory")?.parentElement : pictures.lastElementChild;
      if (before) before.after(drawn);
      else pictures.append(drawn);
    }
    const described = place.parentElement?.querySelector("figcaption");
    if (described) described.textContent = caption;
    showPicture(place, svg);
  }

  studio.listeners.push(receive);
  void offerStored();

  /** Offers to go on with the run in this browser's storage. */
  async function offerStored(): Promise<void> {
    const stored = await studio.client.call("storedRun");
    if (!stored) return;
    const goOnWith = (): void => {
      studio.go("train");
      void continueRun();
    };
    const again = button("Continue", goOnWith, { class: "primary", "data-id": "continue" });
    const onFolder = (files: readonly GivenFile[]): void => {
      studio.go("train");
      void continueRun(files);
    };
    const needs =
      stored.needsModel &&
      dropZone("Its model is not in this browser: drop its folder again.", onFolder, {
        files: undefined,
        folder: "Choose its folder",
      });
    fill(
      studio.offer,
      h("p", {}, wordsOf(stored)),
      needs,
      h(
        "p",
        { class: "buttons" },
        !stored.needsModel && !stored.isBusy && again,
        button("Not now", () => fill(studio.offer)),
      ),
    );
  }

  draw();
  return {
    name: "train",
    title: "Train",
    element,
    isOpen: ({ plan, run, isBusy }) => plan !== undefined || run !== undefined || (isBusy && state !== "idle"),
    update: draw,
  };
}

/** Errors after which a smaller run may do. */
const IS_MEMORY: readonly string[] = ["OutOfMemoryError", "MemoryBudgetError"];

function outcomeOf({ step, totalSteps, after, bestStep }: RunFacts): string {
  const results = Object.entries(after).map(([name, value]) => `${name} ${metric(name, value)}`);
  const kept = bestStep === undefined || bestStep === step ? "" : `. Kept: step ${bestStep}, the best evaluation`;
  return `${step < totalSteps ? `Stopped after step ${step}` : "Trained"}. ${results.join(", ")}${kept}`;
}

function wordsOf({ model, step, totalSteps, isBusy }: StoredRun): string {
  if (isBusy) return `Another tab is training ${model}. This one can plan, and train once that has ended.`;
  return step < totalSteps
    ? `A run of ${model} is stored in this browser, after step ${step} of ${totalSteps}.`
    : `A finished run of ${model} is stored in this browser.`;
}
