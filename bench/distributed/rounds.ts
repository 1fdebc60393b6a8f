// One device without a GPU, as a process: makes rounds of a given size and tells their times on stdout.
import { join } from "../../src/node/entry/distributed";
import type { JoinOptions } from "../../src/distributed/join";

export interface RoundsOptions {
  readonly join: JoinOptions;
  readonly devices: number;
  /** Numbers of a part. */
  readonly values: number;
  readonly rounds: number;
}

/** What a device tells at the end. */
export interface RoundTimes {
  readonly leads: boolean;
  /** Seconds of each round in which all devices had a share. */
  readonly seconds: readonly number[];
  /** Payload bytes of the last round, sent and received, and as they were predicted. */
  readonly bytes: readonly [sent: number, received: number];
  readonly planned: readonly [sent: number, received: number];
}

async function main(given: string): Promise<void> {
  // Given by the program that starts this one.
  const { join: joining, devices, values, rounds } = JSON.parse(given) as RoundsOptions;
  const world = join({ ...joining, devices });
  const member = await world.enter({ identity: { values: String(values) }, gpu: "none", warn: () => undefined });
  if (member.needsState) await member.fetchState();
  const part = new Float32Array(values).fill(0.5);
  const seconds: number[] = [];
  let report = member.takeBytes();
  for (;;) {
    await member.meet(() => Promise.resolve(new Uint8Array(16)));
    const start = performance.now();
    const { exact } = await member.round({
      sizeOf: () => ({ exact: 1, values }),
      compute: () => Promise.resolve({ exact: Float32Array.of(1), values: part }),
      join: (parts) => {
        const sum = { exact: Float32Array.of(parts.length), values: Float32Array.from(parts[0]!.values) };
        for (const other of parts.slice(1)) other.values.forEach((value, i) => (sum.values[i]! += value));
        return sum;
      },
    });
    report = member.takeBytes();
    if (exact[0] !== devices) continue;
    seconds.push((performance.now() - start) / 1000);
    if (seconds.length === rounds) break;
  }
  const { sent, received, planned } = report;
  const told: RoundTimes = {
    leads: member.leads,
    seconds,
    bytes: [sent, received],
    planned: [planned.sent, planned.received],
  };
  process.stdout.write(`${JSON.stringify(told)}\n`);
  await member.leave();
}

await main(process.argv[2] ?? "{}");
