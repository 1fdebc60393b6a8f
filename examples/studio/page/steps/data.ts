// Step 2: the data that it learns from.
import type { DataFacts, GivenFile, Mapping } from "../../protocol";
import { button, choice, field, fill, h, setChoices, showPicture, table, tiles } from "../dom";
import type { Choices } from "../dom";
import { dropZone } from "../files";
import type { Step, Studio } from "../studio";

const TASKS: Readonly<Record<string, string>> = {
  classify: "Classify texts",
  answer: "Write answers",
};

/** Columns that are to be guessed. */
const GUESSED = { text: -1, pair: -1, label: -1 } as const;

export function dataStep(studio: Studio): Step {
  const mapping = h("div", { class: "row" });
  const problems = h("div");
  const facts = h("div", { "aria-live": "polite" });
  const preview = h("div");
  const histogram = h("figure");
  const next = button("Next: plan", () => studio.go("plan"), { class: "primary", disabled: true });
  /** The facts that are drawn: drawing them again would take the focus from the controls. */
  let drawn: DataFacts | undefined;

  const read = (files: readonly GivenFile[] | undefined): void => {
    if (!studio.mayReplaceRun()) return;
    void studio.attempt(async () => {
      studio.say("Reading the files ...");
      took(await studio.client.call("openData", files));
    });
  };
  const took = (data: DataFacts): void => {
    studio.data = data;
    [studio.form, studio.plan, studio.run] = [undefined, undefined, undefined];
    studio.say(`${data.train} rows to learn from, ${data.dev} to evaluate on.`);
  };
  const remap = (change: Partial<Mapping>): void => {
    const { data } = studio;
    // Where it is not done, the controls are drawn again as they were.
    drawn = undefined;
    if (!data || !studio.mayReplaceRun()) studio.onChange();
    else void studio.attempt(async () => took(await studio.client.call("mapData", { ...data.mapping, ...change })));
  };

  const example = button("Use the example: 3,000 short reviews", () => read(undefined), {
    "data-id": "example",
    class: "primary",
  });
  const element = h(
    "div",
    {},
    h(
      "p",
      {},
      "A table (.csv, .tsv) with a column of texts and one of classes or answers; conversations, instructions or pairs (.jsonl); plain text (.txt); or a folder of PNG or JPEG images with a folder for each class. A file named dev, valid or test is used to evaluate on.",
    ),
    dropZone("Drop files or a folder here.", read, { files: "Choose files", folder: "Choose a folder" }),
    h("p", { class: "buttons" }, example),
    mapping,
    facts,
    problems,
    preview,
    histogram,
    h("p", { class: "buttons" }, next),
  );

  function draw(data: DataFacts): void {
    drawn = data;
    fill(mapping, ...controls(data, remap));
    fill(
      facts,
      tiles([
        ["rows to learn from", String(data.train)],
        ["rows to evaluate on", `${data.dev}${data.devFile === undefined ? "" : `, of ${data.devFile}`}`],
        ...(data.mapping.task === "images"
          ? []
          : ([
              ["longest row", `${data.longest} tokens`],
              ["95 % of the rows have at most", `${data.usual} tokens`],
            ] as const)),
        ...data.labels.slice(0, 12).map(({ name, count }): [string, string] => [`class ${name}`, `${count} rows`]),
      ]),
    );
    fill(problems, ...problemsOf(data));
    fill(preview, ...previewOf(data));
    if (data.histogram) {
      showPicture(histogram, data.histogram.svg);
      histogram.append(h("figcaption", {}, data.histogram.caption));
    } else fill(histogram);
  }

  return {
    name: "data",
    title: "Data",
    element,
    isOpen: ({ model }) => model !== undefined,
    update({ model, data, isBusy }) {
      next.disabled = !data || isBusy;
      example.hidden = model !== undefined && !model.tasks.includes("classify");
      if (data && data !== drawn) draw(data);
      if (data || !drawn) return;
      drawn = undefined;
      for (const place of [mapping, facts, problems, preview, histogram]) fill(place);
    },
  };
}

/** Controls of how the files are read. */
function controls({ mapping, columns, devFile }: DataFacts, remap: (change: Partial<Mapping>) => void): HTMLElement[] {
  const parts: HTMLElement[] = [];
  if (columns.length > 0) {
    const named: Choices = columns.map((name, i) => [String(i), name]);
    const column = (label: string, key: "text" | "pair" | "label", options: Choices): HTMLElement => {
      const change = (value: number): void => {
        // A column that another control has already changes places with this one's.
        const other = (["text", "label"] as const).find((each) => each !== key && mapping[each] === value);
        remap({ [key]: value, ...(other && key !== "pair" && { [other]: mapping[key] }) });
      };
      return field(
        label,
        choice(options, String(mapping[key]), (value) => change(Number(value))),
      );
    };
    const isClass = mapping.task === "classify";
    const task = h("select", {
      onchange: () => remap({ task: task.value === "answer" ? "answer" : "classify", ...GUESSED }),
    });
    setChoices(task, Object.entries(TASKS), mapping.task);
    const header = h("input", { type: "checkbox", onchange: () => remap({ header: header.checked }) });
    header.checked = mapping.header;
    parts.push(
      field("What it learns", task),
      column("Text", "text", named),
      ...(isClass ? [column("Second text", "pair", [["-1", "none"], ...named])] : []),
      column(isClass ? "Class" : "Answer", "label", named),
      field("The first row has the names", header),
    );
  }
  if (mapping.task === "answer" && columns.length === 0) {
    const each = h("input", { type: "checkbox", onchange: () => remap({ eachAnswer: each.checked }) });
    each.checked = mapping.eachAnswer;
    parts.push(field("A row for each answer of a chat", each, "For templates that rewrite earlier answers."));
  }
  if (devFile === undefined) {
    const share = h("select", { onchange: () => remap({ devShare: Number(share.value) }) });
    const shares: Choices = ["0", "0.05", "0.1", "0.2"].map((value) => [value, `${Number(value) * 100} %`]);
    setChoices(share, shares, String(mapping.devShare));
    parts.push(field("Share to evaluate on", share));
  }
  return parts;
}

function problemsOf({ problems, problemCount, unused, trainFile }: DataFacts): Node[] {
  const left = unused.length > 0 && h("p", {}, `Not read, as ${trainFile} is: ${unused.join(", ")}.`);
  const others = left ? [left] : [];
  if (problemCount === 0) return others;
  const rows = problems.map(({ file, line, fact, remedy }) => [
    file,
    line === undefined ? "" : String(line),
    `${fact}. ${remedy}`,
  ]);
  const lines = problemCount === 1 ? "1 line is" : `${problemCount} lines are`;
  const more = problemCount > problems.length ? ` The first ${problems.length} are:` : "";
  return [
    ...others,
    table(`${lines} left out; the others are used.${more}`, ["file", "line", "what is wrong"], rows, [1]),
  ];
}

function previewOf({ preview, mapping }: DataFacts): Node[] {
  if (preview.length === 0) return [];
  const isText = mapping.task !== "classify";
  const rows = preview.map(({ tokens, label, more }) =>
    h(
      "li",
      {},
      label !== undefined && h("strong", { class: "label" }, label),
      ...tokens.map(({ text, isLearnt }) =>
        h(isLearnt ? "mark" : "span", { class: "token" }, text === "" ? "\u00a0" : text.replaceAll("\n", "\u21b5\n")),
      ),
      more > 0 && h("small", {}, ` and ${more} more`),
    ),
  );
  const what = isText
    ? "Marked tokens are learnt; the others are only read."
    : "The class in front of each row is learnt.";
  return [
    h("h3", {}, "As the model reads them"),
    h("p", { class: "quiet" }, what),
    h("ul", { class: "rows" }, ...rows),
  ];
}
