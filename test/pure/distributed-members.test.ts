import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { join } from "safetape/distributed";
import type { JoinOptions, WorldMember, WorldPart } from "safetape/distributed";
import { relay } from "../../bench/distributed/link";
import { startNats, whyNoNats } from "../../bench/distributed/nats-server";
import type { NatsServer } from "../../bench/distributed/nats-server";
import { contentsOf, headOf, messages, newId, NO_ID, Signer } from "../../src/distributed/frame";
import type { Head } from "../../src/distributed/frame";
import { failure } from "../support/failure";

// Devices without a GPU: each gives numbers that follow from its share, so that what a round comes to is known.

const reason = await whyNoNats();
let server: NatsServer;
let runs = 0;

describe.skipIf(reason !== undefined)(`devices of a run${reason === undefined ? "" : ` (left out: ${reason})`}`, () => {
  beforeAll(async () => void (server = await startNats()));
  afterAll(() => server.stop());

  const IDENTITY = { "adapter.r": "8", "model.bits": "abc" };
  type Entering = Partial<JoinOptions> & { readonly identity?: Record<string, string>; readonly gpu?: string };
  type Device = WorldMember & { readonly warnings: string[] };

  async function enter(run: string, { identity = IDENTITY, gpu = "one", ...options }: Entering = {}): Promise<Device> {
    const warnings: string[] = [];
    const world = join({ servers: server.address, run, deadline: 6, ...options });
    const member = await world.enter({
      identity,
      gpu,
      warn: (message) => void warnings.push(message),
    });
    onTestFinished(() => member.leave());
    return Object.assign(member, { warnings });
  }

  const newRun = (): string => `test-${++runs}`;
  const state = new TextEncoder().encode("the state");

  /** Lets a device in: it takes over the leader's state, which the leader gives between two steps. */
  async function letIn(leader: Device, device: Device): Promise<void> {
    expect(device.needsState).toBe(true);
    const [given] = await Promise.all([device.fetchState(), untilAsked(leader)]);
    expect(given).toEqual(state);
    expect(device.needsState).toBe(false);
  }

  async function untilAsked(leader: Device): Promise<void> {
    const given: unknown[] = [];
    const end = performance.now() + 5000;
    while (given.length === 0 && performance.now() < end) {
      await leader.meet(() => {
        given.push(state);
        return Promise.resolve(state);
      });
      await pause(20);
    }
  }

  const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  /** A round whose result has the weights of all shares in its first number, and the number of parts in the second. */
  const work = (size = 3, change: (part: WorldPart) => WorldPart = (part) => part) => ({
    sizeOf: () => ({ exact: 2, values: size }),
    compute: ({ start, end, total }: { start: number; end: number; total: number }) =>
      Promise.resolve(
        change({ exact: Float32Array.of((end - start) / total, 1), values: new Float32Array(size).fill(0.1) }),
      ),
    join: (parts: readonly WorldPart[]) => ({
      exact: Float32Array.of(...[0, 1].map((i) => parts.reduce((sum, { exact }) => sum + exact[i]!, 0))),
      values: Float32Array.from({ length: size }, (_, i) => parts.reduce((sum, { values }) => sum + values[i]!, 0)),
    }),
  });

  async function rounds(devices: readonly Device[], count: number): Promise<WorldPart[]> {
    const results = await Promise.all(
      devices.map(async (device) => {
        const own: WorldPart[] = [];
        for (let i = 0; i < count; i++) own.push(await device.round(work()));
        return own;
      }),
    );
    for (const own of results) expect(own).toEqual(results[0]);
    return results[0]!;
  }

  /** Rounds until all of these devices share the work. */
  async function untilAll(devices: readonly Device[]): Promise<void> {
    for (let i = 0; i < 100; i++) {
      const [result] = await rounds(devices, 1);
      expect(result!.exact[0]).toBeCloseTo(1, 5);
      if (result!.exact[1] === devices.length) return;
      await pause(20);
    }
    throw new Error("Not all devices came to share the work.");
  }

  async function runOf(count: number, options: Partial<JoinOptions> = {}): Promise<[string, ...Device[]]> {
    const run = newRun();
    const first = await enter(run, options);
    expect(first.leads).toBe(true);
    const devices = [first];
    while (devices.length < count) {
      const device = await enter(run, options);
      await letIn(first, device);
      devices.push(device);
      // The others go on, so that it gets a share.
      await untilAll(devices);
    }
    return [run, ...devices];
  }

  it("share the work, get the same bits, and send as many bytes as predicted", async () => {
    const [, a, b, c] = await runOf(3);
    for (const device of [a!, b!, c!]) device.takeBytes();
    await rounds([a!, b!, c!], 5);
    for (const device of [a!, b!, c!]) {
      const { planned, ...measured } = device.takeBytes();
      expect(measured.sent).toBeGreaterThan(0);
      expect(measured).toEqual(planned);
    }
  });

  it.each(["bf16", "int8"] as const)("get the same bits in %s", async (encoding) => {
    const [, a, b] = await runOf(2, { encoding });
    const results = await rounds([a!, b!], 4);
    for (const { values } of results) for (const value of values) expect(value).toBeCloseTo(0.2, 2);
  });

  /** A server that is so many milliseconds away. */
  async function farServer(milliseconds: number): Promise<string> {
    const far = await relay(Number(server.address.split(":").at(-1)), { milliseconds, megabits: null });
    onTestFinished(() => far.close());
    return `127.0.0.1:${far.port}`;
  }

  it("begin one run, however close they come to each other", async () => {
    // A run is begun after 250 ms without a sign of others, and the first device's are on their way for 100: some of the second
    // ones come while it begins.
    const servers = await farServer(100);
    const offsets = Array.from({ length: 24 }, (_, i) => 600 + 80 * i);
    const pairs = offsets.map(async (offset) => {
      const [run, deadline] = [newRun(), 2];
      const first = enter(run, { deadline, servers });
      await pause(offset);
      return Promise.all([first, enter(run, { deadline })]);
    });
    for (const [i, pair] of (await Promise.all(pairs)).entries()) {
      const leaders = pair.map(({ leads }) => leads);
      expect(leaders, `the second came after ${offsets[i]} ms`).toContain(false);
      void pair.map((device) => device.leave());
    }
  });

  it("learn that their run was begun anew while nobody heard them", async () => {
    const [run, deadline] = [newRun(), 0.2];
    const first = enter(run, { deadline, servers: await farServer(300) });
    const connection = await connect({ servers: server.address });
    onTestFinished(() => connection.close());
    const manager = await jetstreamManager(connection);
    // What the first one has appended is here; its next sign of life comes after more than half of the deadline.
    const begun = () => manager.streams.info(`safetape_${run}`).then(({ state: { messages } }) => messages > 0);
    while (!(await begun().catch(() => false))) await pause(20);
    const second = await enter(run, { deadline });
    expect([(await first).leads, second.leads]).toEqual([true, true]);
    const error = await failure(untilAsked(await first));
    expect(error.message).toContain("has begun the run");
    expect((await failure((await first).round(work()))).message).toBe(error.message);
    expect([...(await second.round(work())).exact]).toEqual([1, 1]);
  });

  it("go on when one leaves, and when the leader does", async () => {
    const [, a, b, c] = await runOf(3);
    await b!.leave();
    await untilAll([a!, c!]);
    await a!.leave();
    const [result] = await rounds([c!], 1);
    expect([...result!.exact]).toEqual([1, 1]);
    expect(c!.leads).toBe(true);
  });

  it("leave out one that gives nothing, and take it back when it is there again", async () => {
    const [, a, b] = await runOf(2, { deadline: 2.4 });
    const [first] = await rounds([a!], 1);
    expect([...first!.exact], "the round that b missed").toEqual([1, 1]);
    expect(a!.warnings.join()).toContain("left out");
    // It reads what the others have done, and is among them again.
    expect(await b!.round(work())).toEqual(first);
    await untilAll([a!, b!]);
  });

  it("refuse a part of the wrong shape, and one that is not finite, by name, and go on", async () => {
    const [, a, b] = await runOf(2);
    const wrong = [
      [work(4), "4 numbers"],
      [work(3, ({ exact, values }) => ({ exact, values: values.fill(NaN) })), "not finite"],
    ] as const;
    for (const [faulty, words] of wrong) {
      const [result] = await Promise.all([a!.round(work()), b!.round(faulty)]);
      expect([...result.exact], words).toEqual([1, 1]);
      expect(a!.warnings.join("\n"), words).toContain(words);
      expect(b!.warnings.join("\n"), words).toContain(words);
      await untilAll([a!, b!]);
    }
  });

  /** What the devices of a run say, as a device with the token that is not safetape's hears it. */
  async function observer(run: string) {
    const connection = await connect({ servers: server.address });
    onTestFinished(() => connection.close());
    const signer = await Signer.create(run);
    const publish = (subject: string, sent: readonly Uint8Array[]): void => {
      for (const message of sent) connection.publish(`safetape.${run}.${subject}`, message);
    };
    const heard = async (isWanted: (head: Head) => boolean): Promise<Head> => {
      for await (const { data } of connection.subscribe(`safetape.${run}.alive`)) {
        const head = headOf(data)!;
        if (isWanted(head)) return head;
      }
      throw new Error("The connection is closed.");
    };
    return { connection, signer, publish, heard };
  }

  it("refuse a part that is too long, by name, and go on", async () => {
    const [run, a, b] = await runOf(2);
    const [idOfA, idOfB] = [a!, b!].map((device) => ("id" in device ? String(device.id) : ""));
    const { signer, publish, heard } = await observer(run);
    const head = { ...(await heard(({ sender }) => sender === idOfB)), kind: "part", attempt: 0, millis: 0 } as const;
    const contents = {
      exact: new Float32Array(2),
      values: { bytes: new Uint8Array(12), count: 3, encoding: "f32" },
    } as const;
    // The numbers that are expected, and bytes behind them; in the other's name, so that it is left out.
    const long = await messages(signer, head, { ...contents, record: "x".repeat(5000) }, 1 << 19);
    const leads = a!.round(work());
    await pause(50);
    publish(`to.${idOfA}`, long);
    expect([...(await leads).exact]).toEqual([1, 1]);
    expect(a!.warnings.join("\n")).toMatch(new RegExp(`device ${idOfB} has \\d+ bytes, which is too long`));
    await b!.round(work());
    await untilAll([a!, b!]);
    // Before a round has begun, what it expects is not known: a length that none has.
    const [huge] = await messages(signer, { ...head, round: a!.rounds }, contents, 1 << 19);
    new DataView(huge!.buffer).setUint32(24, 2 ** 32 - 1, true);
    publish(`to.${idOfA}`, [await signer.sign(Uint8Array.from(huge!))]);
    await pause(100);
    expect(a!.warnings.join("\n")).toContain(`${2 ** 32 - 1} bytes, which is too long`);
    await untilAll([a!, b!]);
  });

  it("let in no device with messages of another version, and enter no run of one", async () => {
    const [run, a] = await runOf(1);
    const { connection, signer } = await observer(run);
    const head = { kind: "ask", sender: newId(), run: NO_ID, round: 0, attempt: 0, digest: NO_ID, millis: 0 } as const;
    const record = { what: "enter", version: 2, identity: { ...IDENTITY, "wire.encoding": "f32" } };
    const [question] = await messages(signer, head, { record }, 1 << 19);
    const { data } = await connection.request(`safetape.${run}.ask`, question, { timeout: 5000 });
    expect(contentsOf(headOf(data)!, [data]).record).toMatchObject({ version: 1, refused: "It is another run." });
    expect(a!.warnings.join()).toContain("was refused");
    expect([...(await a!.round(work())).exact]).toEqual([1, 1]);

    const later = newRun();
    const leader = await observer(later);
    const ofLeader = { ...head, sender: newId(), run: newId() };
    const alive = { state: "synced", leads: true, round: 0, rows: 1, gpu: "one", identity: "" };
    const refusal = { refused: "It is another run.", version: 2, identity: record.identity };
    const [sign] = await messages(leader.signer, { ...ofLeader, kind: "alive" }, { record: alive }, 1 << 19);
    const [answer] = await messages(leader.signer, { ...ofLeader, kind: "answer" }, { record: refusal }, 1 << 19);
    const timer = setInterval(() => leader.publish("alive", [sign!]), 50);
    onTestFinished(() => clearInterval(timer));
    leader.connection.subscribe(`safetape.${later}.ask`, { callback: (_, message) => void message.respond(answer) });
    const error = await failure(enter(later));
    expect(error.message).toContain("messages 2; this is version 1");
  });

  it("send one with other tensors to fetch the leader's", async () => {
    const [, a, b] = await runOf(2);
    for (const device of [a!, b!]) device.setDigest(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    await rounds([a!, b!], 1);
    b!.setDigest(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 9));
    const [result, error] = await Promise.all([
      a!.round(work()),
      failure(b!.round(work()).then(() => b!.round(work()))),
    ]);
    expect([...result.exact]).toEqual([1, 1]);
    expect(error.message).toContain("lacks what the others have done");
    expect(a!.warnings.join()).toContain("other tensors");
    await letIn(a!, b!);
    await untilAll([a!, b!]);
  });

  it("tell a device that lacks the state when all have left that had it", async () => {
    const [run, a] = await runOf(1);
    const b = await enter(run);
    await a!.leave();
    expect((await failure(b.fetchState())).message).toContain("have left it");
  });

  it("let in no other run, no other encoding and nobody without the token", async () => {
    const [run, a] = await runOf(1, { token: "secret", deadline: 2.4 });
    const others: [Entering, string][] = [
      [
        { token: "secret", deadline: 2.4, identity: { ...IDENTITY, "adapter.r": "4" } },
        "adapter.r is 8 there and 4 here",
      ],
      [{ token: "secret", deadline: 2.4, encoding: "int8" }, "wire.encoding is f32 there and int8 here"],
      [{ token: "wrong", deadline: 2.4 }, "another token"],
      [{ deadline: 2.4 }, "another token"],
    ];
    for (const [options, words] of others) {
      const error = await failure(enter(run, options));
      expect(error.name).toBe("DistributedError");
      expect(error.message).toContain(words);
    }
    expect([...(await a!.round(work())).exact]).toEqual([1, 1]);
  });

  it("pass over a stranger's messages, in the log too", async () => {
    const [run, a, b] = await runOf(2);
    const stranger = await connect({ servers: server.address });
    onTestFinished(() => stranger.close());
    for (let i = 0; i < 3; i++) {
      const noise = new Uint8Array(200).fill(i);
      noise.set([0x53, 0x54, 0x57, 0x31, i]);
      for (const subject of ["log", "alive", "ask"]) stranger.publish(`safetape.${run}.${subject}`, noise);
      await stranger.flush();
      await rounds([a!, b!], 2);
    }
    expect(a!.warnings.join()).toContain("stranger");
  });

  it("are alone with their leader's choice, and mixed where their GPUs differ", async () => {
    const run = newRun();
    const a = await enter(run, { gpu: "llvmpipe" });
    const b = await enter(run, { gpu: "SwiftShader" });
    await letIn(a, b);
    await untilAll([a, b]);
    expect([a.isMixed, b.isMixed]).toEqual([true, true]);
    const decision = {
      sizeOf: () => ({ exact: 0, values: 0 }),
      join: () => ({ exact: new Float32Array(), values: new Float32Array(), record: { tensors: ["x"] } }),
    };
    const results = await Promise.all([a.round(decision), b.round(decision)]);
    for (const { record } of results) expect(record).toEqual({ tensors: ["x"] });
  });
});

it.skipIf(reason !== undefined)("a server that is not there is told", async () => {
  const world = join({ servers: "127.0.0.1:1", run: "a", connection: { reconnect: false, timeout: 500 } });
  const error = await failure(world.enter({ identity: {}, gpu: "", warn: () => undefined }));
  expect(error.message).toContain("does not let this device in");
});
