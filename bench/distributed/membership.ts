import { setTimeout as sleep } from "node:timers/promises";
import { median } from "../support/results";
import { DeviceProcess } from "./devices";
import type { DeviceOptions } from "./device";
import type { NatsServer } from "./nats-server";

/** Seconds. */
export interface MembershipTimes {
  /** A step of two devices. */
  readonly step: number;
  /** From the moment a device has entered to its first step with the others. */
  readonly join: number;
  /** By how much the longest pause of the others was longer than a step meanwhile. */
  readonly joinOfOthers: number;
  /** As above, after a device said that it leaves, and after one was killed. */
  readonly leave: number;
  readonly kill: number;
}

const DEADLINE = 4;
const SUBJECT = { steps: 150, batch: 16, learningRate: 1e-4 };

/** Lets a device of three join, leave, come again, and die, while the first two train. */
export async function membershipTimes(server: NatsServer, run: string): Promise<MembershipTimes> {
  const join = { servers: server.address, run, deadline: DEADLINE, devices: 2 };
  const options: DeviceOptions = { subject: SUBJECT, join, pause: 50 };
  const pair = [await DeviceProcess.start(options), await DeviceProcess.start(options)] as const;
  await Promise.all(pair.map((device) => device.step(12)));
  const gaps = (from: number): number[] =>
    pair.flatMap(({ steps }) => steps.slice(1).flatMap(({ at }, i) => (at > from ? [at - steps[i]!.at] : [])));
  const step = median(gaps(pair[0].steps[3]!.at));
  const longest = (from: number): number => Math.max(...gaps(from)) - step;
  const third = await DeviceProcess.start({ ...options, leaveAfterSteps: 8 });
  await third.created();
  const entered = performance.now();
  await third.step(1);
  const joined = performance.now();
  await sleep(500);
  const joinOfOthers = longest(entered);
  await third.end();
  // It says that it leaves before it tells its end.
  const left = joined + (third.steps.at(-1)!.at - third.steps[0]!.at);
  await sleep(2000);
  const leave = longest(left - 200);
  const fourth = await DeviceProcess.start(options);
  await fourth.step(1);
  await sleep(500);
  const killed = performance.now();
  await fourth.kill();
  await sleep(DEADLINE * 1000);
  const kill = longest(killed);
  await Promise.all(pair.map((device) => device.kill()));
  const seconds = (milliseconds: number): number => milliseconds / 1000;
  return {
    step: seconds(step),
    join: seconds(joined - entered),
    joinOfOthers: seconds(joinOfOthers),
    leave: seconds(leave),
    kill: seconds(kill),
  };
}

export interface Overhead {
  /** Median seconds of a step: of one device with its share alone, and of two with one each. */
  readonly alone: number;
  readonly two: number;
}

/** What a step of two devices takes beside one device with the same share. Each has one thread. */
export async function overheadOf(server: NatsServer, run: string): Promise<Overhead> {
  const env = { LP_NUM_THREADS: "1" };
  const subject = { steps: 40, batch: 16, layers: 6, hidden: 256, rank: 8 };
  const times = (device: DeviceProcess): number => median(device.steps.slice(8).map(({ seconds }) => seconds));
  const one = await DeviceProcess.start({ subject: { ...subject, batch: 8 } }, env);
  await one.end();
  const join = { servers: server.address, run, deadline: 20, devices: 2 };
  const pair = [await DeviceProcess.start({ subject, join }, env), await DeviceProcess.start({ subject, join }, env)];
  await Promise.all(pair.map((device) => device.end()));
  return { alone: times(one), two: Math.max(...pair.map(times)) };
}
