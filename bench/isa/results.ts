import { writeFile } from "node:fs/promises";
import { provenance } from "../../scripts/provenance.mjs";
import { standaloneSvg } from "../../src/report/svg";
import { dotRows } from "../support/dot-rows";
import { BEHIND, REASONS } from "./bounds";
import type { Compiled, CompiledAll } from "./compile-all";
import type { Entry } from "./entry";
import { missedBy } from "./missed";
import type { Missed } from "./missed";
import type { PeerShader } from "./peers";
import { QUOTED, QUOTED_ORIGIN } from "./quoted";
import type { PeerWork, QuotedFigures } from "./quoted";
import { BOUNDED, figuresOf, formatWidths, rowsOf } from "./rows";
import type { Figures, Row } from "./rows";
import type { Family } from "./toolchain";

const FILE = "bench/results/isa";

/** Multiply-adds of a hot block below which a peer's shader does something else than multiply. */
const LEAST_FMA = 16;

/** A peer's shaders for one kind of work. */
interface PeerRow {
  readonly peer: string;
  readonly label: string;
  readonly work: PeerShader["family"];
  readonly family: Family;
  readonly workloads: readonly string[];
  readonly shaders: readonly Figures[];
}

/** Writes the figures as JSON, a table of the bounds and a chart of the inner loops. */
export async function writeIsa(kernels: CompiledAll<Entry>, peers: CompiledAll<PeerShader>): Promise<void> {
  const rows = rowsOf(kernels.compiled);
  const peerRows = peerRowsOf(peers.compiled);
  const missed = missedBy(rows);
  const origin = { driver: [...new Set(kernels.drivers)].join(", "), ...provenance() };
  const entries = entriesOf(kernels.compiled);
  await writeFile(`${FILE}.json`, json(origin, { entries, missed, peers: peerRows }));
  await writeFile(`${FILE}.svg`, chart(rows, peerRows, `${origin.driver}, commit ${origin.commit}`));
  await writeFile(`${FILE}.md`, page(rows, peerRows, missed, origin));
}

/** JSON with a line for each element. */
const json = (origin: object, results: { entries: object[]; missed: Missed; peers: readonly PeerRow[] }): string => {
  const lines = (values: readonly unknown[]): string => values.map((value) => `  ${JSON.stringify(value)}`).join(",\n");
  const { entries, missed, peers } = results;
  const head = JSON.stringify(origin, null, 1).slice(0, -2);
  const missedLines = Object.entries(missed).map(
    ([key, values]) => `  ${JSON.stringify(key)}: ${JSON.stringify(values)}`,
  );
  return `${head},\n "entries": [\n${lines(entries)}\n ],\n "missed": {\n${missedLines.join(",\n")}\n },\n "peers": [\n${lines(peers)}\n ]\n}\n`;
};

/** One object for each entry, with the figures of every family. */
function entriesOf(compiled: readonly Compiled<Entry>[]): object[] {
  const byEntry = new Map<string, { entry: Entry; figures: Record<string, Figures> }>();
  for (const { of: entry, family, code } of compiled) {
    const key = JSON.stringify([entry.kernel, entry.entry, entry.constants]);
    const { figures } = byEntry.get(key) ?? { figures: {} };
    byEntry.set(key, { entry, figures: { ...figures, [family]: figuresOf(code, entry.uses[0]!) } });
  }
  return [...byEntry.values()].map(({ entry: { uses, ...entry }, figures }) => ({
    ...entry,
    uses: uses.map(({ kind, traits, origin }) => [kind, ...traits, origin].join(" ")),
    ...figures,
  }));
}

/** Merges the shaders of a peer that do the same kind of work under one name. */
function peerRowsOf(compiled: readonly Compiled<PeerShader>[]): PeerRow[] {
  const rows = new Map<string, PeerRow>();
  for (const { of: shader, family, code } of compiled) {
    const figures = figuresOf(code, { kind: shader.family === "attention" ? "attention" : "product" });
    if ((figures.hot?.fma ?? 0) < LEAST_FMA) continue;
    const { peer, label, workload } = shader;
    const key = JSON.stringify([peer, label, shader.family, family]);
    const { workloads, shaders } = rows.get(key) ?? { workloads: [], shaders: [] };
    const row = { peer, label, work: shader.family, family };
    rows.set(key, { ...row, workloads: [...new Set([...workloads, workload])], shaders: [...shaders, figures] });
  }
  return [...rows.values()];
}

type Group = readonly [key: string, rows: readonly Row[]];

/** The rows of every key, in the order of their keys. What no launch chooses has a key of its own. */
function groups(rows: readonly Row[]): Group[] {
  const result = new Map<string, Row[]>();
  for (const row of rows.filter(({ family }) => BOUNDED.includes(family))) {
    const key = row.use.origin === "variant" ? `${row.key}, not chosen` : row.key;
    result.set(key, [...(result.get(key) ?? []), row]);
  }
  return [...result].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
}

const isHeavy = ([, rows]: Group): boolean =>
  rows.some(({ use: { kind } }) => kind === "product" || kind === "narrow product" || kind === "attention");

/** The least or the largest of a figure on each family, such as "112 / 120". */
function extremes(rows: readonly Row[], figure: (figures: Figures) => number | undefined, most: boolean): string {
  const ofFamily = (family: Family): string => {
    const values = rows.filter((row) => row.family === family).flatMap(({ figures }) => figure(figures) ?? []);
    return values.length === 0 ? "-" : String(most ? Math.max(...values) : Math.min(...values));
  };
  return [...new Set(BOUNDED.map(ofFamily))].join(" / ");
}

/** The least and the largest value, such as "0.5 to 0.57". */
function range(values: readonly number[]): string {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return least === most ? String(least) : `${least} to ${most}`;
}

function page(
  rows: readonly Row[],
  peers: readonly PeerRow[],
  missed: Missed,
  origin: { readonly driver: string; readonly commit: string; readonly date: string },
): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const table = (head: readonly string[], body: readonly (readonly string[])[]): string =>
    [line(head), line(head.map(() => "---")), ...body.map(line)].join("\n");
  const missedText = (key: string): string =>
    Object.entries(missed[key] ?? {})
      .map(([bound, value]) => `${bound}: ${value} (${reasonOf(key, bound)})`)
      .join("; ") || (key.endsWith("not chosen") ? "-" : "met");
  const all = groups(rows);
  const loops = all
    .filter(isHeavy)
    .map(([key, group]) => [
      key,
      extremes(group, ({ registers }) => registers, true),
      extremes(group, ({ spilled }) => spilled, true),
      extremes(group, ({ waves }) => waves, false),
      extremes(group, ({ hot }) => hot?.fmaPerValu, false),
      extremes(group, ({ hot }) => hot?.ldsBytesPerFma, true),
      missedText(key),
    ]);
  const others = all.filter((group) => !isHeavy(group));
  const isUneventful = ([key, [row]]: Group): boolean => row?.use.kind === "small" && missed[key] === undefined;
  const streams = others
    .filter((group) => !isUneventful(group))
    .map(([key, group]) => [
      key,
      extremes(group, ({ registers }) => registers, true),
      extremes(group, ({ waves }) => waves, false),
      [...new Set(group.map(({ figures }) => formatWidths(figures.reads)))].join("; "),
      [...new Set(group.map(({ figures }) => formatWidths(figures.writes)))].join("; "),
      missedText(key),
    ]);
  const peerTable = peers
    .filter(({ family }) => family === "RDNA3")
    .map(({ peer, label, work, shaders }) => [
      [peer, ...(label ? [label] : []), `${work.replace("_", " ")} (${shaders.length})`].join(", "),
      range(shaders.map(({ registers }) => registers)),
      range(shaders.map(({ spilled }) => spilled)),
      range(shaders.map(({ waves }) => waves)),
      range(shaders.flatMap(({ hot }) => hot?.fmaPerValu ?? [])),
      range(shaders.flatMap(({ hot }) => hot?.ldsBytesPerFma ?? [])),
    ]);
  const quotedTable = quotedBeside(peers).map(
    ({ peer, shader, registers, waves, fmaPerValu, ldsBytesPerFma, reason }) => {
      return [
        `${peer}, ${shader} * (${reason})`,
        String(registers),
        "0",
        waves,
        String(fmaPerValu),
        String(ldsBytesPerFma),
      ];
    },
  );
  const behindTable = behind(rows, peers).map(({ work, ours, best }) => [
    work,
    `${ours.share}; ${ours.bytes}`,
    `${best.peer}: ${best.share}; ${best.bytes}`,
    BEHIND[work],
  ]);
  const figures = ["registers", "spilled", "waves", "fma / valu", "bytes / fma"];
  return `${heading(origin, all.filter(([key]) => !key.endsWith("not chosen")).length, Object.keys(missed).length)}
## Products and attention

${table(["entry", ...figures, "bounds"], loops)}

## Other entries

Accesses of global memory are those in loops, or all where no loop has any: number of accesses of so many bytes.
${others.filter(isUneventful).length} rows of products and attention that only small cases have meet all bounds, and are in isa.json alone.

${table(["entry", "registers", "waves", "reads", "writes", "bounds"], streams)}

## Shaders of other libraries, RDNA3

Caught as ${[...new Set(peers.map(({ peer }) => peer))].join(", ")} hand them to WebGPU for the workloads of \`bench:peers\`;
those without an inner loop of multiply-adds are left out. In brackets: the number of shaders. A shader belongs to the first workload
that needs it.

${table(["shader", ...figures], [...peerTable, ...quotedTable])}

\\* Not caught here, for the reason in brackets; ${QUOTED_ORIGIN}.

## Where a peer's loop has a larger share, RDNA3

The least of ours and the best of all peers' shaders for work of the same kind: multiply-adds among vector instructions, and bytes of
workgroup memory read per multiply-add. A peer's shader for a wide product is compared with narrow ones too, which it also computes.

${table(["work", "ours: fma / valu; bytes / fma", "best peer", "the machine code's reason"], behindTable)}
`;
}

/** The quoted figures of peers that were not caught. */
const quotedBeside = (peers: readonly PeerRow[]): QuotedFigures[] =>
  QUOTED.filter(({ peer: quoted }) => !peers.some(({ peer }) => peer.startsWith(quoted)));

interface Loop {
  readonly share: number;
  readonly bytes: number;
}

interface BehindRow {
  readonly work: keyof typeof BEHIND;
  readonly ours: Loop;
  readonly best: Loop & { readonly peer: string };
}

/** Kinds of work in which the least of our shares on RDNA3 is below the best of a peer. */
function behind(rows: readonly Row[], peers: readonly PeerRow[]): BehindRow[] {
  const quoted = quotedBeside(peers).map(({ peer, work, fmaPerValu, ldsBytesPerFma }) => {
    return { peer, work, share: fmaPerValu, bytes: ldsBytesPerFma };
  });
  const caught = peers.flatMap(({ peer, work: family, family: gpu, workloads, shaders }) => {
    const work = gpu === "RDNA3" ? peerWork(family, workloads) : undefined;
    if (!work) return [];
    return shaders.flatMap(({ hot }) =>
      hot ? [{ peer, work, share: hot.fmaPerValu, bytes: hot.ldsBytesPerFma }] : [],
    );
  });
  // The keys of an object of this type.
  const works = Object.keys(BEHIND) as (keyof typeof BEHIND)[];
  return works.flatMap((work) => {
    const ours = rows
      .filter((row) => row.family === "RDNA3" && row.use.origin === "step" && ourWork(row) === work)
      .flatMap(({ figures: { hot } }) => (hot ? [{ share: hot.fmaPerValu, bytes: hot.ldsBytesPerFma }] : []))
      .sort((a, b) => a.share - b.share)[0];
    const best = [...caught, ...quoted]
      .filter((loop) => loop.work === (work === "narrow product" ? "product" : work))
      .sort((a, b) => b.share - a.share)[0];
    return ours && best && ours.share < best.share ? [{ work, ours, best }] : [];
  });
}

function ourWork({ entry, use: { kind } }: Row): keyof typeof BEHIND | undefined {
  if (kind === "product" || kind === "narrow product") return kind;
  if (kind !== "attention") return undefined;
  return entry.entry === "forward" ? "attention forward" : "attention gradients";
}

/** What a caught shader computes. Those that only a backward pass needs are first needed by a workload that has one. */
function peerWork(family: PeerShader["family"], workloads: readonly string[]): PeerWork | undefined {
  if (family === "product" || family === "lora") return "product";
  if (family !== "attention") return undefined;
  return workloads.every((name) => name.includes("backward")) ? "attention gradients" : "attention forward";
}

function reasonOf(key: string, bound: string): string {
  const reason = REASONS.find((each) => each.bound === bound && each.entry.test(key))?.reason;
  return reason ?? "not yet";
}

const heading = (
  { driver, commit, date }: { readonly driver: string; readonly commit: string; readonly date: string },
  count: number,
  missed: number,
): string => `# What AMD's compiler makes of the kernels

Made by \`npm run bench:isa\`: ${driver}, commit ${commit}, ${date}. No GPU ran: these figures say what the machine code
is, not how fast it runs, and nothing about correctness. Figures are the worst of all constants with which an entry is
dispatched; two figures are RDNA2 and RDNA3. ${count - missed} of ${count} rows meet all bounds (\`bench/isa/bounds.ts\`).

"fma / valu" is the share of multiply-adds among the vector instructions of the block with most multiply-adds: the largest share of
peak that the loop can reach. "bytes / fma" are read from workgroup memory. Waves hide each other's latency.

![](isa.svg)
`;

function chart(rows: readonly Row[], peers: readonly PeerRow[], run: string): string {
  const least = (values: readonly (number | undefined)[]): number | undefined => {
    const known = values.filter((value) => value !== undefined);
    return known.length > 0 ? Math.round(100 * Math.min(...known)) : undefined;
  };
  const percent = (value: (family: Family) => number | undefined) =>
    Object.fromEntries(BOUNDED.map((family) => [family, value(family)]));
  const chartRows = groups(rows.filter(({ use }) => use.origin !== "variant"))
    .filter(isHeavy)
    .map(([label, group]) => ({
      label,
      values: percent((family) =>
        least(group.filter((row) => row.family === family).map(({ figures }) => figures.hot?.fmaPerValu)),
      ),
    }));
  const peerChartRows = [...new Set(peers.map(({ peer }) => peer))].map((peer) => ({
    label: `${peer}, its best product`,
    values: percent((family) => {
      const shaders = peers.filter((row) => row.peer === peer && row.family === family).flatMap((row) => row.shaders);
      return Math.round(100 * Math.max(...shaders.map(({ hot }) => hot?.fmaPerValu ?? 0)));
    }),
  }));
  const figure = dotRows({
    name: "isa",
    title: "Multiply-adds among the vector instructions of inner loops",
    x: "share (%)",
    rows: [...chartRows, ...peerChartRows],
    caption:
      "The least share of each entry's constants, in machine code for AMD's GPUs. f32 products have to reach 92 %.",
    rules: [{ at: 92, label: "92 %" }],
  });
  return standaloneSvg(figure, run);
}
