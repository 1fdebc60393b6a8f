import { nameOf } from "../../gpu/tuning/candidates";
import type { BoundLaunch } from "../../gpu/tuning/scratch";
import type { KernelChoice, Tuner } from "../../gpu/tuning/tuner";
import { createEngine } from "../../node/engine";
import { tuningPath } from "../../node/tuning-file";
import type { Limits } from "../../op/limits";
import { fusedAttention } from "../../ops/fused_attention";
import { linear } from "../../ops/linear";
import { loraLinear } from "../../ops/lora_linear";
import { plan } from "../../tape/plan";
import { Recorder } from "../../tape/tape";
import type { Value } from "../../tape/tape";
import { DOCTOR } from "../flags";
import { readOptions } from "../options";
import type { Print, RawOptions } from "../options";

/** The time of one kernel variant. */
interface VariantTime {
  readonly name: string;
  /** Undefined if the driver refuses the variant. */
  readonly seconds: number | undefined;
  readonly gflops: number | undefined;
  /** Whether the variant sums in another order than the portable kernel. */
  readonly rounds: boolean;
}

/** The times of all kernel variants for one class of shapes. */
export interface ShapeTimes {
  readonly shape: string;
  /** The launch that was timed, in words. */
  readonly example: string;
  /** Name of the fastest variant that is allowed. */
  readonly chosen: string;
  readonly variants: readonly VariantTime[];
}

interface Sample {
  readonly example: string;
  readonly bound: BoundLaunch;
}

/** Sizes of BERT-base at 512 tokens, with LoRA of rank 8. */
const [TOKENS, WIDTH, INNER, HEADS, RANK] = [512, 768, 3072, 12, 8];

/** `safetape doctor --tune`: times every kernel variant of products and attention, and remembers the fastest ones. */
export async function tuneCommand(raw: RawOptions, print: Print): Promise<void> {
  const { seconds = Infinity, json } = readOptions(DOCTOR, raw);
  using engine = await createEngine({ variants: "tuned", tuning: { seconds } });
  const { info, device } = engine;
  // An engine with `variants: "tuned"` has a tuner.
  const { classes, left } = await measureAll(device.tuner!, samples(info.isSoftware, device.limits));
  if (json) {
    print(JSON.stringify({ adapter: info, cache: tuningPath(), classes, left }));
    return;
  }
  print(`adapter   ${info.device || info.vendor} (${info.isSoftware ? "software" : "hardware"})`);
  print(`driver    ${info.description}`);
  for (const times of classes) print(`\n${timesText(times)}`);
  if (left > 0) print(`\n${left} more were not timed: the limit of ${seconds} seconds was reached.`);
  print(`\n* is what createEngine({ variants: "tuned" }) runs on this adapter from now on (saved in ${tuningPath()}).`);
  if (classes.some(({ variants }) => variants.some(({ rounds }) => rounds))) {
    print('~ sums in another order: used only with createEngine({ variants: "tuned", tuning: { rounding: true } }).');
  }
}

/** Times all samples until the tuner's limit. Prints progress on stderr, because this takes seconds to minutes. */
async function measureAll(
  tuner: Tuner,
  all: readonly Sample[],
): Promise<{ readonly classes: ShapeTimes[]; readonly left: number }> {
  const classes: ShapeTimes[] = [];
  for (const [i, sample] of all.entries()) {
    if (tuner.secondsLeft <= 0) return { classes, left: all.length - i };
    process.stderr.write(`${i + 1}/${all.length}  ${sample.example}\n`);
    const choice = await tuner.measure(sample.bound);
    if (choice) classes.push(shapeTimes(choice, sample));
  }
  return { classes, left: 0 };
}

function shapeTimes({ shape, chosen, seconds = {} }: KernelChoice, { example, bound }: Sample): ShapeTimes {
  const { variants = [] } = bound.launch;
  const flops = variants[0]?.flops ?? 0;
  const rounding = new Set(variants.filter(({ rounds }) => rounds).map(nameOf));
  const times = Object.entries(seconds).map(([name, time]) => ({
    name,
    seconds: Number.isFinite(time) ? time : undefined,
    rounds: rounding.has(name),
    gflops: Number.isFinite(time) ? flops / time / 1e9 : undefined,
  }));
  return { shape, example, chosen, variants: times };
}

/** A class of shapes as text, with one line for each variant. */
export function timesText({ shape, example, chosen, variants }: ShapeTimes): string {
  const lines = variants.map(({ name, seconds, gflops, rounds }) => {
    const mark = name === chosen ? "*" : rounds ? "~" : " ";
    const speed =
      seconds === undefined
        ? "refused by the driver"
        : `${(1000 * seconds).toFixed(3).padStart(11)} ms ${(gflops ?? 0).toFixed(1).padStart(8)} GFLOP/s`;
    return `  ${mark} ${name.padEnd(30)} ${speed}`;
  });
  return [`${shape}   (${example})`, ...lines].join("\n");
}

/** Launches to time: square products, the products of a LoRA step, and both passes of attention. */
function samples(isSoftware: boolean, limits: Limits): Sample[] {
  const squares = isSoftware ? [256, 512, 1024] : [512, 1024, 2048, 4096];
  return [
    ...squares.flatMap((size) => launchesOf(`${size} x ${size} x ${size}`, limits, square(size))),
    ...launchesOf(`LoRA, ${TOKENS} x ${WIDTH} to ${WIDTH}`, limits, lora(WIDTH, WIDTH)),
    ...launchesOf(`LoRA, ${TOKENS} x ${WIDTH} to ${INNER}`, limits, lora(WIDTH, INNER)),
    ...launchesOf(`attention, ${TOKENS} tokens, ${HEADS} heads`, limits, attention),
  ];
}

/** The launches with variants in the forward and backward pass of an op. */
function launchesOf(name: string, limits: Limits, record: (recorder: Recorder) => Recorded): Sample[] {
  const recorder = new Recorder();
  const { y, trainable } = record(recorder);
  const gradients = trainable.length > 0 ? { loss: y, trainable: new Set(trainable) } : {};
  const { launches } = plan(recorder, { outputs: { y }, ...gradients, limits });
  return launches
    .filter(({ launch }) => launch.variants)
    .map((bound) => ({ example: `${name}, ${bound.phase}`, bound }));
}

interface Recorded {
  readonly y: Value;
  /** Names of the parameters that get a gradient. */
  readonly trainable: readonly string[];
}

const square =
  (size: number) =>
  (recorder: Recorder): Recorded => {
    const [x, w] = [recorder.input("x", [size, size]), recorder.input("w", [size, size])];
    return { y: recorder.apply(linear, { x, w }, { layout: "in_out" }), trainable: [] };
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
    return { y: recorder.apply(loraLinear, values, attributes), trainable: ["x", "a", "b"] };
  };

function attention(recorder: Recorder): Recorded {
  const values = {
    qkv: recorder.parameter("qkv", [1, TOKENS, 3 * WIDTH]),
    mask: recorder.input("mask", [1, TOKENS], "i32"),
    seed: recorder.input("seed", [1, 2], "u32"),
  };
  const scale = 1 / Math.sqrt(WIDTH / HEADS);
  const attributes = { heads: HEADS, kvHeads: HEADS, scale, dropout: 0, salt: 0 };
  return { y: recorder.apply(fusedAttention, values, attributes), trainable: ["qkv"] };
}
