import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { standaloneSvg } from "../src/report/svg";
import { dotRows } from "./support/dot-rows";
import type { DotChart } from "./support/dot-rows";
import { round } from "./support/results";

const FOLDER = "bench/results";

/** A file of bench/results. */
interface StoredResults {
  readonly driver: string;
  readonly commit: string;
  readonly date: string;
  readonly results: never;
}

interface Peers {
  readonly workloads: readonly {
    readonly workload: string;
    readonly engines: Readonly<Record<string, { readonly ms?: number; readonly reason?: string }>>;
    readonly "best peer / ours": number | string;
    readonly target: number;
  }[];
}

interface OpRow {
  readonly op: string;
  readonly case: string;
  readonly pass: string;
  readonly ms: number;
  readonly "of FMA rate": number;
  readonly "of copy rate"?: number;
}

interface FreezeRow {
  readonly model: string;
  readonly frozen: string;
  readonly option: string;
  readonly limit: number;
  readonly "CPU ratio, median": number;
  readonly "clock ratio, median": number;
  readonly "median over %": number;
}

/** The chart and the table of one bench's results. */
interface Presentation {
  readonly chart: DotChart;
  readonly table: readonly Readonly<Record<string, string | number>>[];
}

/** By the bench's name. The type `never` admits functions of different results. */
const PRESENTATIONS: Readonly<Record<string, (results: never) => Presentation>> = { peers, ops, freeze };

function peers({ workloads }: Peers): Presentation {
  const ours = (row: Peers["workloads"][number]): number => row.engines["safetape"]?.ms ?? NaN;
  const rows = workloads.map((row) => ({
    label: row.workload,
    values: Object.fromEntries(
      Object.entries(row.engines).map(([name, { ms }]) => [name, ms === undefined ? undefined : ms / ours(row)]),
    ),
  }));
  return {
    chart: {
      name: "peers",
      title: "Time compared with the WebGPU peers",
      x: "time / safetape's time",
      isLogarithmic: true,
      rows,
      caption: "Medians of alternating runs in one process on one adapter. Further right is slower.",
      rules: [{ at: 3, label: "3 times" }],
    },
    table: workloads.map(({ workload, engines, ...row }) => ({
      workload,
      ...Object.fromEntries(Object.entries(engines).map(([name, { ms }]) => [`${name}, ms`, ms ?? "-"])),
      "best peer / ours": row["best peer / ours"],
      "aimed at": row.target,
    })),
  };
}

function ops(results: readonly OpRow[]): Presentation {
  const percent = (share: number): number => round(100 * share);
  const copyPercent = (row: OpRow): number | undefined => row["of copy rate"] && percent(row["of copy rate"]);
  const rows = results.map((row) => ({
    label: `${row.op}, ${row.pass}: ${row.case}`,
    values: { "FMA rate": percent(row["of FMA rate"]), "copy rate": copyPercent(row) },
  }));
  return {
    chart: {
      name: "ops",
      title: "Every op's bench cases against the adapter's own rates",
      isLogarithmic: true,
      rows,
      x: "share of the measured rate (%)",
      rules: [{ at: 100, label: "100 %" }],
      caption:
        "Small tensors stay in the processor's caches, where they may move faster than in the copy that sets the rate.",
    },
    table: results.map((row) => ({
      op: row.op,
      case: row.case,
      pass: row.pass,
      ms: row.ms,
      "of FMA rate, %": percent(row["of FMA rate"]),
      "of copy rate, %": copyPercent(row) ?? "-",
    })),
  };
}

function freeze(results: readonly FreezeRow[]): Presentation {
  const label = ({ model, frozen, option }: FreezeRow): string => `${model}: ${frozen}${option ? `, ${option}` : ""}`;
  return {
    chart: {
      name: "freeze",
      title: "Time of a LoRA step with its lowest layers frozen",
      x: "time / time with all live",
      caption: "The limit is the share of the 4 N T FLOPs that remains: 1 - f/2, or 1 - f with a cached prefix.",
      rows: results.map((row) => ({
        label: label(row),
        values: { limit: row.limit, "processor time": row["CPU ratio, median"], clock: row["clock ratio, median"] },
      })),
    },
    table: results.map((row) => ({
      model: row.model,
      frozen: row.frozen,
      option: row.option || "-",
      limit: row.limit,
      "processor time": row["CPU ratio, median"],
      clock: row["clock ratio, median"],
      "over the limit, %": row["median over %"],
    })),
  };
}

/** Formats rows as a Markdown table with a column for every key. */
function markdown(rows: Presentation["table"]): string {
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  return [line(keys), line(keys.map(() => "---")), ...rows.map((row) => line(keys.map((key) => row[key] ?? "-")))].join(
    "\n",
  );
}

// For each adapter, draws the results that exist (NAME-ADAPTER.svg) and writes their tables (speed-ADAPTER.md).
for (const adapter of ["llvmpipe", "swiftshader", "nvidia", "amd", "intel", "apple"]) {
  const sections: string[] = [];
  for (const [name, present] of Object.entries(PRESENTATIONS)) {
    const file = `${FOLDER}/${name}-${adapter}.json`;
    if (!existsSync(file)) continue;
    // Written by `writeResults`.
    const { results, ...origin } = JSON.parse(await readFile(file, "utf8")) as StoredResults;
    if (origin.commit.endsWith("-dirty")) {
      console.log(`${file}: measured with uncommitted changes; run npm run bench:${name} on a clean checkout`);
      continue;
    }
    const { chart, table } = present(results);
    const run = `${origin.driver}, commit ${origin.commit}, ${origin.date}`;
    await writeFile(`${FOLDER}/${name}-${adapter}.svg`, standaloneSvg(dotRows(chart), run));
    sections.push(`## ${chart.title}\n\n${run}. ${chart.caption}\n\n![](${name}-${adapter}.svg)\n\n${markdown(table)}`);
  }
  if (sections.length === 0) continue;
  const head = `# Speed on ${adapter}\n\nMade by \`npm run bench:charts\` from the JSON files in this folder.`;
  await writeFile(`${FOLDER}/speed-${adapter}.md`, `${[head, ...sections].join("\n\n")}\n`);
  console.log(`${FOLDER}/speed-${adapter}.md`);
}
