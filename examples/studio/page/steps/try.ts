// Step 5: what it has learnt, beside the model as it was.
import type { ClassScores, EvaluationFacts, RunFacts, StudioEvent } from "../../protocol";
import { bar, button, field, fill, h, table } from "../dom";
import { dropZone } from "../files";
import { metric, percent } from "../format";
import type { Step, Studio } from "../studio";

type PieceListener = (piece: Extract<StudioEvent, { type: "piece" }>) => void;

export function tryStep(studio: Studio): Step {
  const place = h("div");
  const evaluation = h("div");
  const element = h(
    "div",
    {},
    place,
    evaluation,
    h(
      "p",
      { class: "buttons" },
      button("Next: take it away", () => studio.go("take"), { class: "primary" }),
    ),
  );
  let drawn: RunFacts | undefined;
  let onPiece: PieceListener = () => undefined;
  studio.listeners.push((event) => {
    if (event.type === "piece") onPiece(event);
  });
  return {
    name: "try",
    title: "Try",
    element,
    isOpen: ({ run }) => run !== undefined,
    show() {
      const { run, data } = studio;
      if (!run || !data || run === drawn) return;
      drawn = run;
      const { task, pair } = data.mapping;
      fill(
        place,
        task === "classify"
          ? classifier(studio, pair >= 0)
          : task === "images"
            ? imageClassifier(studio)
            : writer(studio, data.mapping.text < 0 && task === "answer", (listener) => (onPiece = listener)),
      );
      void studio.client.call("evaluation").then((facts) => fill(evaluation, ...evaluationOf(facts)));
    },
  };
}

function classifier(studio: Studio, hasPair: boolean): HTMLElement {
  const text = h("textarea", { rows: "3" });
  const pair = h("textarea", { rows: "2" });
  const result = h("div", { "aria-live": "polite" });
  const form = h(
    "form",
    {},
    field("A text", text),
    hasPair && field("A second text", pair),
    h("p", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Classify")),
    result,
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void studio.attempt(async () => {
      fill(result, scores(await studio.client.call("classify", text.value, hasPair ? pair.value : undefined)));
    });
  });
  return form;
}

function imageClassifier(studio: Studio): HTMLElement {
  const result = h("div", { "aria-live": "polite" });
  return h(
    "div",
    {},
    dropZone(
      "Drop an image here.",
      ([first]) =>
        void studio.attempt(async () => {
          if (first) fill(result, scores(await studio.client.call("classifyImage", first.file)));
        }),
      { files: "Choose an image", folder: undefined },
    ),
    result,
  );
}

/** Probabilities before and after, side by side. */
function scores(classes: readonly ClassScores[]): HTMLElement {
  const cell = (share: number): HTMLElement =>
    h("div", {}, bar([{ name: "saved", value: share }], 1, percent(share)), percent(share));
  return table(
    "Probabilities of the classes",
    ["class", "before", "after"],
    classes.map(({ name, base, tuned }) => [name, cell(base), cell(tuned)]),
  );
}

/** A place to write in, with answers of both side by side. Pieces of them go where `listen` says. */
function writer(studio: Studio, isChat: boolean, listen: (listener: PieceListener) => void): HTMLElement {
  const text = h("textarea", { rows: "3" });
  const most = h("input", { type: "number", min: "1", max: "2000", value: "100" });
  const columns = { base: h("div"), tuned: h("div") } as const;
  const stop = button("Stop", () => void studio.client.call("stopAnswer"), { disabled: true });
  const clear = (): void => {
    fill(columns.base);
    fill(columns.tuned);
  };
  const forget = button("New conversation", () => {
    void studio.attempt(async () => {
      await studio.client.call("forgetAnswers");
      clear();
    });
  });
  const form = h(
    "form",
    {},
    field(isChat ? "A message" : "A text to go on from", text),
    field("Most tokens of an answer", most),
    h(
      "p",
      { class: "buttons" },
      h("button", { type: "submit", class: "primary" }, isChat ? "Answer" : "Write"),
      stop,
      isChat && forget,
    ),
    h(
      "div",
      { class: "columns" },
      h("section", { "aria-label": "Before" }, h("h3", {}, "Before"), columns.base),
      h("section", { "aria-label": "After" }, h("h3", {}, "After"), columns.tuned),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void studio.attempt(async () => {
      if (!isChat) clear();
      const message = text.value;
      const answers = { base: h("div", { class: "answer" }), tuned: h("div", { class: "answer" }) } as const;
      for (const side of ["base", "tuned"] as const) {
        if (isChat) columns[side].append(h("p", { class: "asked" }, message));
        columns[side].append(answers[side]);
      }
      listen(({ of, text: piece }) => answers[of].append(piece));
      studio.say("Writing, first without and then with what it has learnt ...");
      stop.disabled = false;
      try {
        const note = await studio.client.call("answer", message, Math.max(1, Number(most.value)));
        studio.say(`Written. ${note}`);
        if (isChat) text.value = "";
      } finally {
        stop.disabled = true;
      }
    });
  });
  return form;
}

function evaluationOf({ before, after, labels, confusion }: EvaluationFacts): Node[] {
  const names = Object.keys(after);
  if (names.length === 0) return [h("p", { class: "quiet" }, "There are no rows to evaluate on.")];
  const shown = (name: string, value: number | undefined): string => (value === undefined ? "" : metric(name, value));
  return [
    table(
      "On the rows that were kept for evaluation",
      ["", "before", "after"],
      names.map((name) => [name, shown(name, before[name]), shown(name, after[name])]),
      [1, 2],
    ),
    ...(confusion.length > 0
      ? [
          table(
            "Confusion matrix after training: rows are the true classes, columns what the model says",
            ["", ...labels],
            confusion.map((row, i) => [labels[i] ?? "", ...row.map(String)]),
            labels.map((_, i) => i + 1),
          ),
        ]
      : []),
  ];
}
