// Several devices: the time of a round against a model, by number of devices, bytes and links; runs whose devices are killed.
//
//   npm run bench:distributed -- [rounds] [membership] [losses] [kills] [--kills 100] [--seed 1]
//
// Writes bench/results/distributed-rounds.json and distributed.md, and distributed-{membership,losses,kills}-ADAPTER.json.
import { spawn } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { provenance } from "../scripts/provenance.mjs";
import { lora } from "../src/adapter/lora";
import { Random } from "../src/base/random";
import { stepWireBytes } from "../src/distributed/bytes";
import type { WireEncoding } from "../src/distributed/encoding";
import { createEngine } from "../src/node/engine";
import { plan } from "../src/train/estimate/predict";
import { DeviceProcess } from "./distributed/devices";
import { lossOf } from "./distributed/losses";
import type { Exchange } from "./distributed/losses";
import { membershipTimes, overheadOf } from "./distributed/membership";
import type { MembershipTimes } from "./distributed/membership";
import { bundled } from "./distributed/from-root";
import { relay } from "./distributed/link";
import type { Link } from "./distributed/link";
import { startNats } from "./distributed/nats-server";
import type { NatsServer } from "./distributed/nats-server";
import type { RoundsOptions, RoundTimes } from "./distributed/rounds";
import { readConfig } from "./support/model";
import { median, round, writeResults } from "./support/results";

const ROUNDS_FILE = "bench/results/distributed-rounds.json";
const LOOPBACK: Link = { milliseconds: 0, megabits: null };
/** Rounds that are timed; the first ones join devices. */
const ROUNDS = 12;

interface RoundCase {
  readonly devices: number;
  readonly values: number;
  readonly link: Link;
}

interface MeasuredRound extends RoundCase {
  readonly seconds: number;
  readonly bytes: number;
  readonly planned: number;
}

/** The cases: devices on loopback, then two and three behind slow links. */
const CASES: readonly RoundCase[] = [
  ...[2, 3, 4].flatMap((devices) => [1000, 300_000, 1_200_000].map((values) => ({ devices, values, link: LOOPBACK }))),
  ...[1, 10, 100].map((milliseconds) => ({ devices: 2, values: 300_000, link: { milliseconds, megabits: 1000 } })),
  ...[10, 100].map((megabits) => ({ devices: 2, values: 300_000, link: { milliseconds: 1, megabits } })),
  { devices: 3, values: 300_000, link: { milliseconds: 10, megabits: 100 } },
];

async function measureRound(server: NatsServer, { devices, values, link }: RoundCase, name: string) {
  const program = await bundled("bench/distributed/rounds.ts");
  const port = Number(server.address.split(":").at(-1));
  const times = await Promise.all(
    Array.from({ length: devices }, async (_, i) => {
      // So that the first begins the run.
      await sleep(400 * i);
      const own = link.megabits === null ? undefined : await relay(port, link);
      const servers = own ? `127.0.0.1:${own.port}` : server.address;
      const options: RoundsOptions = { join: { servers, run: name, deadline: 60 }, devices, values, rounds: ROUNDS };
      const text = await run(program, options);
      own?.close();
      // The program's only line.
      return JSON.parse(text) as RoundTimes;
    }),
  );
  const leader = times.find(({ leads }) => leads)!;
  const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
  return { seconds: median(leader.seconds), bytes: sum(leader.bytes), planned: sum(leader.planned) };
}

function run(program: string, options: object): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, JSON.stringify(options)], { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (data) => (text += String(data)));
    child.on("close", (code) => {
      if (code === 0) resolve(text);
      else reject(new Error(`A device ended with ${code}.`));
    });
  });
}

/** What the model has of a machine: seconds of a round without bytes, and per byte that the leader handles. */
interface Machine {
  readonly round: number;
  readonly perByte: number;
}

/**
 * Seconds of a round: its messages cross the link to the server and from it, parts to the leader and the result back; the leader's
 * link carries all parts, and then the result.
 */
function roundSeconds(devices: number, part: number, result: number, link: Link, machine: Machine): number {
  const perByte = link.megabits === null ? 0 : 8 / (link.megabits * 1e6);
  const handled = (devices - 1) * part + result;
  // A part goes through two links, in messages, of which the last is on its way in the second while the first is free.
  const messages = Math.min(part, 1 << 19) + Math.min(result, 1 << 19);
  return machine.round + (4 * link.milliseconds) / 1000 + handled * (perByte + machine.perByte) + messages * perByte;
}

/** The machine's constants from the cases on loopback: the mean time of small rounds, and by least squares what a byte adds to it. */
function machineOf(measured: readonly MeasuredRound[]): Machine {
  const loopback = measured.filter(({ link }) => link.megabits === null);
  const least = Math.min(...loopback.map(({ values }) => values));
  const small = loopback.filter(({ values }) => values === least).map(({ seconds }) => seconds);
  const base = small.reduce((a, b) => a + b, 0) / small.length;
  let [xy, xx] = [0, 0];
  for (const { devices, values, seconds } of loopback) {
    const { part, result } = stepWireBytes(values, devices, { encoding: "f32" });
    const bytes = (devices - 1) * part + result;
    xy += bytes * (seconds - base);
    xx += bytes ** 2;
  }
  return { round: base, perByte: xy / xx };
}

async function benchRounds(): Promise<void> {
  const server = await startNats();
  const measured: MeasuredRound[] = [];
  try {
    for (const [i, each] of CASES.entries()) {
      measured.push({ ...each, ...(await measureRound(server, each, `rounds-${i}`)) });
      console.log(JSON.stringify(measured.at(-1)));
    }
  } finally {
    await server.stop();
  }
  const results = measured.map((each) => ({ ...each, seconds: round(each.seconds) }));
  await mkdir("bench/results", { recursive: true });
  await writeFile(ROUNDS_FILE, `${JSON.stringify({ ...provenance(), results }, null, 1)}\n`);
}

// The table

const MODELS = [
  { name: "BERT-base", file: "bench/configs/bert-base.json", batch: 32, length: 128 },
  { name: "Qwen3-0.6B", file: "bench/configs/qwen3-0.6b.json", batch: 16, length: 512 },
  { name: "LLaMA-2 7B", file: "bench/configs/llama-2-7b.json", batch: 16, length: 512 },
] as const;
const LINKS: readonly Link[] = [
  { milliseconds: 50, megabits: 10 },
  { milliseconds: 10, megabits: 100 },
  { milliseconds: 1, megabits: 1000 },
];
const DEVICES = [2, 4, 8, 16, 32, 64];
/** Floating-point operations per second that a device is taken to reach. An assumption, which no device here was measured for. */
const DEVICE_FLOPS = 1e13;

async function writeTable(): Promise<void> {
  // Written by this program.
  const { results } = JSON.parse(await readFile(ROUNDS_FILE, "utf8")) as { readonly results: readonly MeasuredRound[] };
  const machine = machineOf(results);
  const lines = [
    "# Several devices: a round, measured and on paper",
    "",
    "Written by `npm run bench:distributed`. A round is what devices exchange in a step: parts to the leader, its sum to all.",
    "",
    `Model: seconds = ${round(machine.round)} + 4 delay + (parts at the leader + result) (8 / bandwidth + ${machine.perByte.toExponential(2)}) + one message of each / bandwidth.`,
    "The two constants are those of the machine that measured (two slow cores, busy with other work), from the cases without a link. Links are a relay in user space, since the kernel there has no netem.",
    "",
    "| devices | numbers | delay (ms) | Mbit/s | measured (s) | model (s) | leader's bytes | predicted |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ...results.map(({ devices, values, link, seconds, bytes, planned }) => {
      const { part, result } = stepWireBytes(values, devices, { encoding: "f32" });
      const model = round(roundSeconds(devices, part, result, link, machine));
      const { milliseconds, megabits } = link;
      return `| ${devices} | ${values} | ${milliseconds} | ${megabits ?? "loopback"} | ${seconds} | ${model} | ${bytes} | ${planned} |`;
    }),
    "",
    "## Steps per second by the model",
    "",
    `LoRA of rank 8 on query and value, the gradients' computation divided among devices of ${DEVICE_FLOPS.toExponential(0)} FLOP/s (an assumption: no such device was measured), links as above with the same constants.`,
    "Half frozen: the adapters of the lower half of the layers. In brackets: the share of a step that is the exchange.",
    "",
  ];
  for (const { name, file, batch, length } of MODELS) {
    const config = await readConfig(file);
    const predict = (freezeBelow: number) => plan({ config, adapter: lora({ rank: 8 }), batch, length, freezeBelow });
    const whole = predict(0);
    const half = predict(Math.floor(whole.layers / 2));
    lines.push(`### ${name}, ${batch} rows of ${length} tokens`, "");
    lines.push(`| live | encoding | link | ${DEVICES.map((n) => `${n} devices`).join(" | ")} |`);
    lines.push(`| --- | --- | --- | ${DEVICES.map(() => "---").join(" | ")} |`);
    for (const [live, prediction] of [
      ["all", whole],
      ["half", half],
    ] as const) {
      for (const encoding of ["f32", "int8"] satisfies WireEncoding[]) {
        for (const link of LINKS) {
          const { flops, trainableParameters } = prediction;
          const seconds = (flops.forward + flops.backward + flops.recompute) / DEVICE_FLOPS;
          const cells = DEVICES.map((devices) => {
            const { part, result } = stepWireBytes(trainableParameters, devices, { encoding });
            const exchange = roundSeconds(devices, part, result, link, machine);
            const total = seconds / devices + exchange;
            return `${round(1 / total)} (${Math.round((100 * exchange) / total)} %)`;
          });
          lines.push(
            `| ${live} | ${encoding} | ${link.megabits} Mbit/s, ${link.milliseconds} ms | ${cells.join(" | ")} |`,
          );
        }
      }
    }
    lines.push("");
  }
  await writeFile("bench/results/distributed.md", `${lines.join("\n").trimEnd()}\n`);
}

// Kills

interface Kill {
  readonly run: number;
  /** The victim's last step. */
  readonly afterStep: number;
  readonly victim: "leader" | "follower" | "joining";
}

/** Steps of a run, and those after which no device is killed any more: another one must have the time to come. */
const KILL_STEPS = 160;
const LAST_KILL = 100;

/**
 * Runs of two devices, of which one is killed at a random moment and replaced by another, again and again; some while they join. Whoever
 * is left at the end has the same tensors as the others, and losses close to those of one device.
 */
async function benchKills(kills: number, seed: number): Promise<void> {
  using engine = await createEngine();
  const random = new Random(seed);
  const server = await startNats();
  const subject = { steps: KILL_STEPS, batch: 8, policy: "safe", learningRate: 1e-4 } as const;
  const outcomes: Kill[] = [];
  const worst: number[] = [];
  try {
    const alone = await (await DeviceProcess.start({ subject })).end();
    for (let run = 1; outcomes.length < kills; run++) {
      const join = { servers: server.address, run: `kills-${run}`, deadline: 4, devices: 2 };
      const start = () => DeviceProcess.start({ subject, join, pause: 100 });
      let devices = [await start(), await start()];
      await Promise.all(devices.map((device) => device.step(1)));
      const stepNow = (): number => Math.max(...devices.map(({ steps }) => steps.at(-1)?.step ?? 0));
      while (stepNow() < LAST_KILL && outcomes.length < kills) {
        const isJoining = devices[1]!.steps.length === 0;
        const victim = isJoining || random.uniform() < 0.5 ? devices[1]! : devices[0]!;
        const survivor = devices.find((device) => device !== victim)!;
        await sleep(random.uniform() * 1500);
        const afterStep = victim.steps.at(-1)?.step ?? 0;
        await victim.kill();
        const role = victim.steps.at(-1)?.leads === true ? "leader" : "follower";
        outcomes.push({ run, afterStep, victim: afterStep === 0 ? "joining" : role });
        console.log(JSON.stringify({ kill: outcomes.length, ...outcomes.at(-1) }));
        devices = [survivor, await start()];
        // One of four is killed while it joins.
        if (random.uniform() < 0.25) await sleep(random.uniform() * 3000);
        else await devices[1]!.step(1);
      }
      const ends = await Promise.all(devices.map((device) => device.end()));
      if (new Set(ends.map(({ done }) => done)).size > 1)
        throw new Error(`Run ${run}: the ends have different tensors.`);
      const { losses } = ends[0]!;
      if (losses.length !== KILL_STEPS) throw new Error(`Run ${run} has ${losses.length} losses.`);
      worst.push(Math.max(...losses.map((loss, step) => Math.abs(loss - alone.losses[step]!))));
      console.log(JSON.stringify({ run, worst: worst.at(-1) }));
      if (!(worst.at(-1)! < 1e-3)) throw new Error(`Run ${run}: a loss differs by ${worst.at(-1)}.`);
      const worstLoss = Math.max(...worst);
      await writeResults(engine, "distributed-kills", { kills: outcomes.length, worstLoss, subject, seed, outcomes });
    }
  } finally {
    await server.stop();
  }
}

// Joining, leaving, overhead

async function benchMembership(): Promise<void> {
  using engine = await createEngine();
  const server = await startNats();
  try {
    const membership: MembershipTimes[] = [];
    for (let i = 0; i < 3; i++) membership.push(await membershipTimes(server, `membership-${i}`));
    const overhead = await overheadOf(server, "overhead");
    const results = { membership, overhead };
    console.log(JSON.stringify(results, null, 1));
    await writeResults(engine, "distributed-membership", results);
  } finally {
    await server.stop();
  }
}

// What encodings and local steps do to the loss

const EXCHANGES: readonly (readonly [name: string, exchange: Exchange])[] = [
  ["one device", undefined],
  ["f32", { encoding: "f32" }],
  ["bf16", { encoding: "bf16" }],
  ["int8", { encoding: "int8" }],
  ["10 local steps, f32", { encoding: "f32", localSteps: { every: 10 } }],
  ["10 local steps, int8", { encoding: "int8", localSteps: { every: 10 } }],
  ["10 local steps, averaged", { encoding: "f32", localSteps: { every: 10, learningRate: 1, momentum: 0 } }],
];

async function benchLosses(): Promise<void> {
  using engine = await createEngine();
  const server = await startNats();
  try {
    const losses: { readonly exchange: string; readonly loss: number }[] = [];
    for (const [name, exchange] of EXCHANGES) {
      losses.push({ exchange: name, loss: await lossOf(engine, server, `losses-${losses.length}`, exchange) });
      console.log(JSON.stringify(losses.at(-1)));
    }
    await writeResults(engine, "distributed-losses", losses);
  } finally {
    await server.stop();
  }
}

const { values, positionals } = parseArgs({
  options: { kills: { type: "string", default: "100" }, seed: { type: "string", default: "1" } },
  allowPositionals: true,
});
const parts = positionals.length > 0 ? positionals : ["rounds", "membership", "losses", "kills"];
if (parts.includes("rounds")) await benchRounds();
if (parts.includes("rounds") || parts.includes("table")) await writeTable();
if (parts.includes("membership")) await benchMembership();
if (parts.includes("losses")) await benchLosses();
if (parts.includes("kills")) await benchKills(Number(values.kills), Number(values.seed));
