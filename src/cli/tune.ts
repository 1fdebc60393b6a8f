import { nameOf } from "../gpu/tuning/candidates";
import type { BoundLaunch } from "../gpu/tuning/scratch";
import type { KernelChoice, Tuner } from "../gpu/tuning/tuner";
import { createEngine, tuningPath } from "../node/index";
import type { Limits } from "../op/limits";
import { fusedAttention } from "../ops/fused_attention";
import { linear } from "../ops/linear";
import { loraLinear } from "../ops/lora_linear";
import { plan } from "../tape/plan";
import { Recorder } from "../tape/tape";
import type { Value } from "../tape/tape";
import { numberOption } from "./options";
import type { Given } from "./options";

/** A way to run a class, as the table shows it. */
interface Row {
  readonly name: string;
  /** Undefined for what the driver refuses. */
  readonly seconds: number | undefined;
  readonly gflops: number | undefined;
  /** Whether it sums in another order than the portable kernel. */
  readonly rounds: boolean;
}

export interface Section {
  readonly shape: string;
  /** What it was timed on. */
  readonly example: string;
  readonly chosen: string;
  readonly variants: readonly Row[];
}

interface Sample {
  readonly example: string;
  readonly bound: BoundLaunch;
}

/** BERT-base at 512 tokens, with LoRA of rank 8. */
const [TOKENS, WIDTH, INNER, HEADS, RANK] = [512, 768, 3072, 12, 8];

/** `safetape doctor --tune`: times every variant of products and attention, and keeps what is fastest. */
export async function tuneCommand(given: Given, print: (line: string) => void): Promise<void> {
  const most = secondsOption(given);
  using engine = await createEngine({ variants: "tuned", tuning: { seconds: most } });
  const { tuner } = engine.device;
  const table = await measureAll(tuner!, samples(engine.info.isSoftware, engine.device.limits));
  const { info } = engine;
  if (given["json"]) {
    print(JSON.stringify({ adapter: info, cache: tuningPath(), ...table }));
    return;
  }
  print(`adapter   ${info.device || info.vendor} (${info.isSoftware ? "software" : "hardware"})`);
  print(`driver    ${info.description}`);
  for (const section of table.classes) print(`\n${sectionText(section)}`);
  if (table.left > 0) print(`\n${table.left} more were not tried: ${most} seconds were over.`);
  print(`\n* is what createEngine({ variants: "tuned" }) runs here from now on (kept in ${tuningPath()}).`);
  if (table.classes.some(({ variants }) => variants.some(({ rounds }) => rounds))) {
    print('~ sums in another order: taken only with createEngine({ variants: "tuned", tuning: { rounding: true } }).');
  }
}

/** As many as it takes, unless told otherwise. */
export const secondsOption = (given: Given): number =>
  given["seconds"] === undefined ? Infinity : numberOption(given, "seconds", "--seconds");

/** Progress goes to stderr, since it takes from seconds to minutes. */
async function measureAll(tuner: Tuner, all: readonly Sample[]): Promise<{ classes: Section[]; left: number }> {
  const classes: Section[] = [];
  for (const [i, { example, bound }] of all.entries()) {
    if (tuner.secondsLeft <= 0) return { classes, left: all.length - i };
    process.stderr.write(`${i + 1}/${all.length}  ${example}\n`);
    const choice = await tuner.measure(bound);
    if (choice) classes.push(section(choice, { example, bound }));
  }
  return { classes, left: 0 };
}

function section({ shape, chosen, seconds = {} }: KernelChoice, { example, bound }: Sample): Section {
  const { variants = [] } = bound.launch;
  const flops = variants[0]?.flops ?? 0;
  const rounding = new Set(variants.filter(({ rounds }) => rounds).map(nameOf));
  const rows = Object.entries(seconds).map(([name, time]) => ({
    name,
    seconds: Number.isFinite(time) ? time : undefined,
    rounds: rounding.has(name),
    gflops: Number.isFinite(time) ? flops / time / 1e9 : undefined,
  }));
  return { shape, example, chosen, variants: rows };
}

/** A class with a line for each way. */
export function sectionText({ shape, example, chosen, variants }: Section): string {
  const lines = variants.map(({ name, seconds, gflops, rounds }) => {
    const mark = name === chosen ? "*" : rounds ? "~" : " ";
    const told =
      seconds === undefined
        ? "refused by the driver"
        : `${(1000 * seconds).toFixed(3).padStart(11)} ms ${(gflops ?? 0).toFixed(1).padStart(8)} GFLOP/s`;
    return `  ${mark} ${name.padEnd(30)} ${told}`;
  });
  return [`${shape}   (${example})`, ...lines].join("\n");
}

/** One launch of each kind: squares, the products of a LoRA step, attention both ways. */
function samples(isSoftware: boolean, limits: Limits): Sample[] {
  const squares = isSoftware ? [256, 512, 1024] : [512, 1024, 2048, 4096];
  return [
    ...squares.flatMap((size) => launchesOf(`${size} x ${size} x ${size}`, limits, square(size))),
    ...launchesOf(`LoRA, ${TOKENS} x ${WIDTH} to ${WIDTH}`, limits, lora(WIDTH, WIDTH)),
    ...launchesOf(`LoRA, ${TOKENS} x ${WIDTH} to ${INNER}`, limits, lora(WIDTH, INNER)),
    ...launchesOf(`attention, ${TOKENS} tokens, ${HEADS} heads`, limits, attention),
  ];
}

/** The launches that have variants, of an op's forward and backward pass. */
function launchesOf(what: string, limits: Limits, record: (recorder: Recorder) => Recorded): Sample[] {
  const recorder = new Recorder();
  const { y, learn } = record(recorder);
  const gradients = learn.length > 0 ? { loss: y, trainable: new Set(learn) } : {};
  const { launches } = plan(recorder, { outputs: { y }, ...gradients, limits });
  return launches
    .filter(({ launch }) => launch.variants)
    .map((bound) => ({ example: `${what}, ${bound.phase}`, bound }));
}

interface Recorded {
  readonly y: Value;
  readonly learn: readonly string[];
}

const square =
  (size: number) =>
  (recorder: Recorder): Recorded => {
    const [x, w] = [recorder.input("x", [size, size]), recorder.input("w", [size, size])];
    return { y: recorder.apply(linear, { x, w }, { layout: "in_out" }), learn: [] };
  };

const lora =
  (from: number, to: number) =>
  (recorder: Recorder): Recorded => {
    const values = {
      x: recorder.parameter("x", [TOKENS, from]),
      w: recorder.parameter("w", [to, from]),
      bias: recorder.parameter("bias", [to]),
      a: recorder.parameter("a", [RANK, from]),
      b: recorder.parameter("b", [to, RANK]),
    };
    const attributes = { layout: "out_in" as const, scale: 1, dropout: 0, salt: 0 };
    return { y: recorder.apply(loraLinear, values, attributes), learn: ["x", "a", "b"] };
  };

function attention(recorder: Recorder): Recorded {
  const values = {
    qkv: recorder.parameter("qkv", [1, TOKENS, 3 * WIDTH]),
    mask: recorder.input("mask", [1, TOKENS], "i32"),
    seed: recorder.input("seed", [1, 2], "u32"),
  };
  const scale = 1 / Math.sqrt(WIDTH / HEADS);
  const attributes = { heads: HEADS, kvHeads: HEADS, causal: false, scale, dropout: 0, salt: 0 };
  return { y: recorder.apply(fusedAttention, values, attributes), learn: ["qkv"] };
}
