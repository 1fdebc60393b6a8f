// The studio: six steps, one of which is in view.
import { unforeseen } from "../protocol";
import { StudioError } from "./client";
import { button, fill, h } from "./dom";
import { dataStep } from "./steps/data";
import { modelStep } from "./steps/model";
import { planStep } from "./steps/plan";
import { takeStep } from "./steps/take";
import { trainStep } from "./steps/train";
import { tryStep } from "./steps/try";
import { storagePanel } from "./storage";
import { Studio } from "./studio";

const studio = new Studio();
const steps = [modelStep, dataStep, planStep, trainStep, tryStep, takeStep].map((make) => make(studio));
const views = steps.map(({ name, title, element }, i) => {
  const heading = h("h2", { tabindex: "-1", id: `${name}-title` }, `${i + 1}. ${title}`);
  const section = h("section", { id: name, "aria-labelledby": `${name}-title`, hidden: i > 0 }, heading, element);
  const link = button(title, () => studio.go(name));
  return { heading, section, link };
});
let current = 0;

function draw(): void {
  steps.forEach((step, i) => {
    step.update?.(studio);
    const { link, section } = views[i]!;
    link.disabled = !step.isOpen(studio);
    section.hidden = i !== current;
    if (i === current) link.setAttribute("aria-current", "step");
    else link.removeAttribute("aria-current");
  });
}

studio.onChange = draw;
studio.go = (name) => {
  current = steps.findIndex((step) => step.name === name);
  draw();
  steps[current]?.show?.(studio);
  views[current]?.heading.focus();
};

// What nothing else handled: the user is told all the same.
addEventListener("unhandledrejection", ({ reason }) => {
  studio.showFault(reason instanceof StudioError ? reason : new StudioError(unforeseen(reason)));
});

// A run is saved every few seconds, but what was done since would be lost.
addEventListener("beforeunload", (event) => {
  if (studio.isBusy) event.preventDefault();
});

fill(
  document.querySelector("#studio")!,
  h("nav", { "aria-label": "Steps" }, h("ol", { class: "steps" }, ...views.map(({ link }) => h("li", {}, link)))),
  studio.status,
  studio.offer,
  studio.faults,
  ...views.map(({ section }) => section),
  storagePanel(studio),
);
draw();
document.body.dataset["ready"] = "true";
