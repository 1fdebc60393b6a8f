import type { Msg, NatsConnection } from "@nats-io/nats-core";
import { hex, sha256Hex } from "../base/sha256";
import { checkSchema } from "../io/json";
import type { RoundSize, WireOptions } from "./bytes";
import type { RoundWork, Share, WireReport, WorldMember, WorldPart, WorldRun } from "../train/world";
import { CHUNK_BYTES, HEAD_BYTES, partBytes, resultBytes } from "./bytes";
import { decode, encode, Encoder } from "./encoding";
import type { WireEncoding } from "./encoding";
import { DistributedError } from "./errors";
import { Assembly, contentsOf, headOf, messages, newId, NO_ID, recordBytes, Signer } from "./frame";
import type { Contents, Head, Id, Kind, Place, Received, RoundPlan } from "./frame";
import { Log } from "./log";
import type { LogMessage } from "./log";
import type { Nats } from "./nats";
import { ANSWER, difference, QUESTION, REFUSAL, SELF, sorted, VERSION } from "./records";
import type { Self } from "./records";
import { shareIn, Speeds, weightsOf } from "./shares";

export interface MemberOptions {
  /** The run's name. */
  readonly name: string;
  readonly token: string;
  readonly encoding: WireEncoding;
  /** Milliseconds after which a device that does not give its part is left out. */
  readonly deadline: number;
  /** Devices that the first round waits for. */
  readonly devices: number;
  /** Bytes of the server's memory that the log may take. */
  readonly logBytes: number;
  /** Whether devices make steps of their own between rounds, so that who comes waits for long. */
  readonly isLocal: boolean;
}

interface Other extends Self {
  /** When it was last heard of, by `performance.now()`. */
  readonly at: number;
}

/** A part that a device gave. */
interface GivenPart extends WorldPart {
  readonly millis: number;
}

/** Most bytes of a part that comes before its round has begun here. */
const EARLY_BYTES = 2 ** 31;

/** A device in a run of several, over NATS. */
export class NatsMember implements WorldMember {
  readonly id = newId();
  readonly #subject: string;
  readonly #encoder: { readonly part: Encoder; readonly result: Encoder };
  readonly #chunk: number;
  readonly #beat: number;
  readonly #silence: number;
  /** The run: drawn by the device that began it; that of none before this one is in. */
  #run: Id = NO_ID;
  #identity = "";
  #leader: Id = NO_ID;
  /** Number of the round that comes next. */
  #round = 0;
  #plan: RoundPlan = { attempt: 0, isMixed: false, places: [] };
  /** Whether a plan has to be made before the leader may use it. */
  #isPlanOld = false;
  /** Attempt of this round for which this device has given its part. */
  #given: number | undefined;
  #isSynced = false;
  #isLeft = false;
  #rows = 1;
  #digest: Id = NO_ID;
  readonly #others = new Map<Id, Other>();
  /** Devices that did not give their part, with the round in which they were, until they are in a later one. */
  readonly #stalled = new Map<Id, number>();
  /** The last complete part of each device. */
  readonly #parts = new Map<Id, { readonly head: Head; readonly contents: Received }>();
  readonly #assemblies = new Map<Id, Assembly>();
  #logAssembly = new Assembly();
  /** Questions for the state, with who asks. */
  readonly #asking: { readonly message: Msg; readonly sender: Id }[] = [];
  readonly #speeds = new Speeds();
  /** What the leader accepts in this round. */
  #sizeOf: RoundWork["sizeOf"] | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #bytes = noBytes();
  readonly #warned = new Set<string>();
  /** Whether there are messages of devices with another token. */
  #hearsStrangers = false;
  /** Whether the first round has begun. */
  #hasBegun = false;
  /** Whether a device leads another run of this name. */
  #hearsOtherRun = false;
  /** Whether the run was begun anew by a device that did not hear this one. */
  #isReplaced = false;

  private constructor(
    private readonly connection: NatsConnection,
    private readonly nats: Nats,
    private readonly log: Log,
    private readonly signer: Signer,
    private readonly options: MemberOptions,
    private readonly world: WorldRun,
  ) {
    this.#subject = `safetape.${options.name}`;
    const { encoding, deadline } = options;
    this.#encoder = { part: new Encoder(encoding), result: new Encoder(encoding) };
    // JetStream adds headers of its own.
    this.#chunk = Math.min(CHUNK_BYTES, (connection.info?.max_payload ?? 2 * CHUNK_BYTES) - HEAD_BYTES - 1024);
    this.#beat = Math.max(50, deadline / 20);
    this.#silence = deadline / 2;
  }

  /**
   * Enters a run, or begins it.
   * @throws DistributedError where the run of this name is another one, or its devices have another token.
   */
  static async enter(
    connection: NatsConnection,
    nats: Nats,
    options: MemberOptions,
    world: WorldRun,
  ): Promise<NatsMember> {
    const signer = await Signer.create(options.token);
    const stream = `safetape_${options.name}`;
    const subject = `safetape.${options.name}.log`;
    const log = await Log.open(nats, connection, {
      stream,
      subject,
      maxBytes: options.logBytes,
      timeout: Math.max(5000, 3 * options.deadline),
    });
    const member = new NatsMember(connection, nats, log, signer, options, world);
    try {
      await member.#enter();
      return member;
    } catch (error) {
      await member.leave();
      throw error;
    }
  }

  get leads(): boolean {
    return this.#leader === this.id;
  }

  get isMixed(): boolean {
    return this.#plan.isMixed;
  }

  get rounds(): number {
    return this.#round;
  }

  get count(): number {
    return this.#plan.places.length;
  }

  get needsState(): boolean {
    return !this.#isSynced;
  }

  get share(): Share | undefined {
    return shareIn(this.#plan, this.id);
  }

  setRowsAtOnce(rows: number): void {
    this.#rows = rows;
  }

  setDigest(digest: Uint8Array): void {
    this.#digest = hex(digest.subarray(0, 8));
  }

  takeBytes(): WireReport {
    const bytes = this.#bytes;
    this.#bytes = noBytes();
    return bytes;
  }

  // Entering

  async #enter(): Promise<void> {
    this.#identity = (await sha256Hex(new TextEncoder().encode(JSON.stringify(sorted(this.world.identity))))).slice(
      0,
      32,
    );
    this.#listen("alive", (message) => this.#hear(message));
    this.#listen("ask", (message) => this.#hearQuestion(message));
    this.#listen(`to.${this.id}`, (message) => this.#hearPart(message));
    await this.connection.flush();
    for (;;) {
      // Read before others are listened for, so that a run which another device begins meanwhile is not begun again.
      const last = await this.log.lastSequence();
      if ((await this.#hearsOthers()) ? await this.#join() : await this.#found(last)) break;
    }
    this.#timer = setInterval(() => void this.#sayAlive(), this.#beat);
    await this.#sayAlive();
  }

  /**
   * Whether others train. A log that is not empty may be that of devices which are busy for a moment: they are waited for as long as
   * they may be silent.
   * @throws DistributedError where those that are there have another token.
   */
  async #hearsOthers(): Promise<boolean> {
    const end = performance.now() + ((await this.log.isUsed()) ? this.#silence : 2.5 * this.#beat);
    do {
      await this.#sayAlive();
      await pause(this.#beat / 2);
      if (this.#hearsSynced) return true;
    } while (performance.now() < end);
    if (this.#hearsStrangers) throw this.#otherToken();
    return false;
  }

  /** Whether a device has been heard of lately that has the state. */
  get #hearsSynced(): boolean {
    const now = performance.now();
    return [...this.#others.values()].some(({ state, at }) => state === "synced" && now - at < this.#silence);
  }

  #otherToken(): DistributedError {
    return new DistributedError(
      `The devices of the run ${this.options.name} have another token.`,
      "Give the token of the run: --rank-token, or `token`.",
    );
  }

  /**
   * Begins the run behind the message that was the log's last one before others were listened for.
   * @param last number of that message.
   * @returns whether it did; not where another device has begun the run since.
   */
  async #found(last: number): Promise<boolean> {
    await this.log.skipTo(last);
    this.#run = newId();
    const record = { version: VERSION };
    if (!(await this.log.append(await this.#messages("found", { record })))) {
      this.#run = NO_ID;
      return false;
    }
    this.#leader = this.id;
    this.#isSynced = true;
    this.#plan = { attempt: 0, isMixed: false, places: [{ id: this.id, weight: 1 }] };
    // Those that see the run in the log wait for a sign of its leader.
    await this.#sayAlive();
    await this.log.forgetBefore();
    return true;
  }

  /** Asks the leader to let this device in. Resolves with false where nobody answers. */
  async #join(): Promise<boolean> {
    const answer = await this.#ask("enter");
    if (!answer) return false;
    const { refused, identity, version } = answer.record;
    const { name } = this.options;
    if (refused !== undefined) {
      const remedy = "Give the run another name (--run), or this device the options, model and data of the others.";
      if (version !== undefined && version !== VERSION) {
        throw new DistributedError(
          `The run ${name} is of safetape's messages ${version}; this is version ${VERSION}.`,
          "Use one version of safetape on all devices.",
        );
      }
      throw new DistributedError(identity ? difference(name, identity, this.world.identity) : refused, remedy);
    }
    this.#run = answer.head.run;
    this.#leader = answer.head.sender;
    // A first guess of the share, until the leader includes this device.
    const places = [...this.#others].filter(([, { state }]) => state === "synced").map(([id]) => ({ id, weight: 1 }));
    this.#plan = { attempt: 0, isMixed: false, places: [...places, { id: this.id, weight: 1 }] };
    return true;
  }

  /** Asks the leader, and resolves with its answer; undefined where none comes in time. */
  async #ask(what: "enter" | "state") {
    const [question] = await this.#messages("ask", {
      record: { what, version: VERSION, identity: this.world.identity },
    });
    let message: Msg;
    try {
      message = await this.connection.request(`${this.#subject}.ask`, question, { timeout: this.options.deadline });
    } catch {
      return undefined;
    }
    const head = headOf(message.data);
    if (!head || !(await this.signer.verify(message.data))) {
      throw this.#otherToken();
    }
    const { record } = contentsOf(head, [message.data]);
    return { head, record: checkSchema(ANSWER, record, "the leader's answer") };
  }

  async #hearQuestion(message: Msg): Promise<void> {
    const asked = await this.#verified(message.data, "ask");
    if (!this.leads || !message.reply) return;
    if (!asked) {
      message.respond((await this.#messages("answer", { record: { refused: "The token is another." } }))[0]);
      return;
    }
    const { what, version, identity } = checkSchema(QUESTION, asked.contents.record, "a device's question");
    const isSame =
      version === VERSION && JSON.stringify(sorted(identity)) === JSON.stringify(sorted(this.world.identity));
    if (!isSame) {
      this.#warn(`A device was refused: its options, model or data are not those of the run ${this.options.name}.`);
      const record = { refused: "It is another run.", version: VERSION, identity: this.world.identity };
      message.respond((await this.#messages("answer", { record }))[0]);
    } else if (what === "state") {
      this.#asking.push({ message, sender: asked.head.sender });
      this.log.wake();
    } else message.respond((await this.#messages("answer", { record: {} }))[0]);
  }

  async fetchState(): Promise<Uint8Array> {
    const { deadline, name, isLocal } = this.options;
    const end = performance.now() + (isLocal ? Infinity : 20 * deadline);
    // The leader answers between two of its steps, unless all have ended meanwhile.
    while (!this.leads && this.#hearsSynced && performance.now() < end) {
      const answer = await this.#ask("state");
      const { object, sequence } = answer?.record ?? {};
      if (!answer || object === undefined || sequence === undefined) {
        // Nobody may be listening for a moment.
        await pause(this.#beat);
        continue;
      }
      const bytes = await (await this.#objects()).getBlob(object);
      if (!bytes) continue;
      this.#leader = answer.head.sender;
      this.#run = answer.head.run;
      this.#digest = answer.head.digest;
      this.#startAt(answer.head.round);
      // The next result, or plan, gives it a share.
      this.#plan = { ...this.#plan, places: [] };
      this.#logAssembly = new Assembly();
      await this.log.skipTo(sequence);
      await this.log.read();
      this.#isSynced = true;
      await this.#sayAlive();
      // Node's client gives a Buffer.
      return new Uint8Array(bytes);
    }
    throw new DistributedError(
      this.#hearsSynced
        ? `Nobody gave the state of the run ${name} within ${(20 * deadline) / 1000} seconds.`
        : `The devices that have the state of the run ${name} have left it.`,
      "Look whether its devices still train; begin it again from a checkpoint where they do not.",
    );
  }

  async meet(state: () => Promise<Uint8Array>): Promise<void> {
    while (this.leads && !this.#isLeft && (await this.#stillLeads())) {
      if (this.#asking.length > 0) await this.#giveState(await state());
      this.#hasBegun ||= this.#round > 0 || this.#present().length >= this.options.devices;
      if (this.#hasBegun && this.#asking.length === 0) return;
      await this.log.wait(this.#beat);
    }
  }

  async #giveState(checkpoint: Uint8Array): Promise<void> {
    const waiting = this.#asking.splice(0);
    const object = `state-${this.#round}-${newId()}`;
    const objects = await this.#objects();
    const before = await objects.list();
    await objects.putBlob({ name: object }, checkpoint);
    const record = { object, sequence: this.log.sequence };
    const [answer] = await this.#messages("answer", { record });
    for (const { message } of waiting) message.respond(answer);
    for (const { name } of before) await objects.delete(name);
    if (this.options.isLocal) await this.#untilSynced(waiting.map(({ sender }) => sender));
  }

  /** Waits for devices to take over the state that they were given, no longer than the deadline, so that they have a share. */
  async #untilSynced(ids: readonly Id[]): Promise<void> {
    const end = performance.now() + this.options.deadline;
    const isWaiting = (id: Id): boolean => this.#others.get(id)?.state === "waiting";
    while (ids.some(isWaiting) && performance.now() < end) await this.log.wait(this.#beat);
  }

  async #objects() {
    const { Objm } = this.nats.obj;
    const name = `safetape_${this.options.name}`;
    return new Objm(this.connection).create(name, { storage: this.nats.jetstream.StorageType.File });
  }

  // Signs of life

  async #sayAlive(): Promise<void> {
    const record: Self = {
      state: this.#isLeft ? "left" : this.#isSynced ? "synced" : "waiting",
      leads: this.leads,
      round: this.#round,
      rows: this.#rows,
      gpu: this.world.gpu,
      identity: this.#identity,
    };
    const [message] = await this.#messages("alive", { record });
    this.#publish("alive", [message!]);
  }

  /** Publishes messages, unless the connection is closing: then there is nobody left to tell. */
  #publish(subject: string, sent: readonly Uint8Array[]): void {
    if (this.connection.isClosed() || this.connection.isDraining()) return;
    for (const message of sent) this.connection.publish(`${this.#subject}.${subject}`, message);
  }

  async #hear({ data }: Msg): Promise<void> {
    const said = await this.#verified(data, "alive");
    if (!said || said.head.sender === this.id) return;
    const { sender, run } = said.head;
    const self = checkSchema(SELF, said.contents.record, "a device's sign of life");
    if (this.#run !== NO_ID && run !== this.#run && run !== NO_ID) {
      this.#hearsOtherRun ||= self.leads;
      return;
    }
    if (self.state === "left") {
      this.#others.delete(sender);
      this.log.wake();
      return;
    }
    const known = this.#others.get(sender);
    this.#others.set(sender, { ...self, at: performance.now() });
    // One that has just come learns at once who is here.
    if (!known && this.#isSynced) void this.#sayAlive();
    if (this.leads && (known?.state !== self.state || known.round !== self.round)) this.log.wake();
  }

  /** Whether the leader has said nothing for too long. */
  get #isLeaderSilent(): boolean {
    const leader = this.#others.get(this.#leader);
    return !leader || performance.now() - leader.at > this.#silence;
  }

  /** Those that may have a share of the next round, in the order of their ranks. */
  #present(): Place[] {
    const now = performance.now();
    for (const [id, { at }] of this.#others) if (now - at > 4 * this.#silence) this.#others.delete(id);
    const isPresent = (id: Id): boolean => {
      if (id === this.id) return true;
      const other = this.#others.get(id);
      if (!other || now - other.at > this.#silence || other.state !== "synced") return false;
      if (other.identity !== this.#identity || other.round < this.#round - 1) return false;
      const stalledIn = this.#stalled.get(id);
      if (stalledIn !== undefined && other.round <= stalledIn) return false;
      this.#stalled.delete(id);
      return true;
    };
    const known = this.#plan.places.map(({ id }) => id);
    const added = [this.id, ...this.#others.keys()].filter((id) => !known.includes(id)).sort();
    const ids = [...known, ...added].filter(isPresent);
    if (ids.join() === known.join()) return [...this.#plan.places];
    for (const id of known.filter((other) => !ids.includes(other))) {
      this.#warn(`The device ${id} is left out from round ${this.#round} on: it left, or did not give its part.`);
    }
    this.#speeds.reset();
    const rowsOf = (id: Id): number => (id === this.id ? this.#rows : (this.#others.get(id)?.rows ?? 1));
    const weights = weightsOf(ids.map(rowsOf));
    return ids.map((id, i) => ({ id, weight: weights[i]! }));
  }

  #planOf(places: readonly Place[], attempt: number): RoundPlan {
    const gpus = new Set(places.map(({ id }) => this.#others.get(id)?.gpu ?? this.world.gpu));
    return { attempt, isMixed: gpus.size > 1, places };
  }

  // Rounds

  async round(work: RoundWork): Promise<WorldPart> {
    for (;;) {
      if (this.#isLeft)
        throw new DistributedError(`This device has left the run ${this.options.name}.`, "Enter it again.");
      if (this.#isReplaced) throw this.#replaced();
      if (!this.#isSynced) throw this.#behind();
      const result = this.leads ? await this.#lead(work) : await this.#follow(work);
      if (!result) continue;
      this.#plan = result.plan ?? this.#plan;
      this.#startAt(this.#round + 1);
      void this.#sayAlive();
      return { exact: result.exact, values: result.values, record: result.record };
    }
  }

  async plan(): Promise<void> {
    const nothing = { exact: new Float32Array(), values: new Float32Array() };
    await this.round({ sizeOf: () => ({ exact: 0, values: 0 }), join: () => nothing });
    if (this.share) return;
    this.#isSynced = false;
    throw this.#behind();
  }

  #behind(): DistributedError {
    return new DistributedError(
      "This device lacks what the others have done meanwhile.",
      "Go on with the trainer's steps, which take over the leader's state.",
    );
  }

  #startAt(round: number): void {
    this.#round = round;
    this.#given = undefined;
    this.#sizeOf = undefined;
    for (const [id, { head }] of this.#parts) if (head.round < round) this.#parts.delete(id);
  }

  async #follow(work: RoundWork): Promise<Received | undefined> {
    const message = this.log.take();
    if (message) return this.#apply(message);
    const { share } = this;
    const { attempt } = this.#plan;
    if (share && work.compute && this.#given !== attempt) {
      const start = performance.now();
      const { exact, values } = await work.compute(share);
      this.#given = attempt;
      const encoding = this.#encoding(work);
      const encoded = work.isExact ? encode(values, encoding) : this.#encoder.part.encode(values);
      const contents = { exact, values: { bytes: encoded, count: values.length, encoding } };
      const millis = (work.millis ?? 0) + performance.now() - start;
      const parts = await this.#messages("part", contents, { attempt, millis });
      this.#publish(`to.${this.#leader}`, parts);
      this.#count("sent", parts, partBytes({ exact: exact.length, values: values.length }, this.#wire(encoding)));
      return undefined;
    }
    await this.log.wait(this.#beat);
    if (this.#isLeaderSilent) await this.#elect();
    return undefined;
  }

  /** Reads a message of the log. Resolves with the result of this round, where the message completes it. */
  async #apply({ data }: LogMessage): Promise<Received | undefined> {
    const head = await this.#headOf(data);
    if (head?.kind === "found" && head.run !== this.#run) this.#isReplaced = true;
    if (!head || head.run !== this.#run) return undefined;
    if (head.kind === "lead") {
      this.#leader = head.sender;
      this.#logAssembly = new Assembly();
      return undefined;
    }
    if (head.sender !== this.#leader || (head.kind !== "plan" && head.kind !== "result")) return undefined;
    if (head.kind === "result") this.#bytes = added(this.#bytes, "received", data.length, 0);
    const complete = this.#logAssembly.add(head, data);
    if (!complete) return undefined;
    if (head.round > this.#round) {
      this.#isSynced = false;
      return undefined;
    }
    if (head.round < this.#round) return undefined;
    const contents = contentsOf(complete.head, complete.chunks);
    if (head.kind === "plan") {
      this.#plan = contents.plan ?? this.#plan;
      return undefined;
    }
    this.#encoder.part.commit();
    const size = { exact: head.exact, values: head.values, record: recordBytes(contents.record) };
    const planned = resultBytes(size, contents.plan?.places.length ?? 0, this.#wire(head.encoding));
    this.#bytes = added(this.#bytes, "received", 0, planned);
    return contents;
  }

  /** Takes the place of a leader that is silent, if this device is the first to do so. */
  async #elect(): Promise<void> {
    const last = await this.log.lastSequence();
    if (last !== this.log.sequence) return;
    if (!(await this.log.append(await this.#messages("lead", {})))) return;
    await this.log.stop();
    this.#others.delete(this.#leader);
    this.#leader = this.id;
    this.#isPlanOld = true;
    this.#speeds.reset();
    this.#logAssembly = new Assembly();
    this.#warn("The device that led the run is silent: this one leads from now on.");
    await this.#sayAlive();
  }

  async #lead(work: RoundWork): Promise<Received | undefined> {
    if (!(await this.#stillLeads())) return undefined;
    this.#sizeOf = work.sizeOf;
    const places = this.#present();
    if (this.#isPlanOld || places.map(({ id }) => id).join() !== this.#plan.places.map(({ id }) => id).join()) {
      const plan = this.#planOf(places, this.#plan.attempt + 1);
      if (!(await this.#append("plan", { plan }))) return undefined;
      this.#plan = plan;
      this.#isPlanOld = false;
    }
    const plan = this.#plan;
    const start = performance.now();
    const own = await work.compute?.(this.share!);
    const millis = (work.millis ?? 0) + performance.now() - start;
    const parts = own ? await this.#collect(plan, this.#asSent(own, work), millis, work) : [];
    if (!parts) return undefined;
    const joined = await work.join(parts.map(({ exact, values }) => ({ exact, values })));
    if (own) this.#speeds.add(plan.places, new Map(plan.places.map(({ id }, i) => [id, parts[i]!.millis])));
    const present = this.#present();
    const next = this.#planOf(isSame(present, plan.places) ? this.#speeds.balance(present) : present, 0);
    const encoding = joined.values.every(Number.isFinite) ? this.#encoding(work) : "f32";
    const { exact, values, record } = joined;
    const bytes =
      encoding === this.#encoder.result.encoding ? this.#encoder.result.encode(values) : encode(values, encoding);
    const contents = { exact, values: { bytes, count: values.length, encoding }, plan: next, record };
    const sent = await this.#append("result", contents);
    if (!sent) return undefined;
    this.#encoder.part.commit();
    this.#encoder.result.commit();
    if (sent.length > 0) {
      const size = { exact: exact.length, values: values.length, record: recordBytes(record) };
      this.#count("sent", sent, resultBytes(size, next.places.length, this.#wire(encoding)));
    }
    // What was sent, so that all have the same bits. JSON does not keep what others could not read.
    return { exact, values: decode(bytes, values.length, encoding), plan: next, record: copyOf(record) };
  }

  /** This device's own part after the same encoding as that of the others. */
  #asSent({ exact, values }: WorldPart, work: RoundWork): WorldPart {
    if (work.isExact || this.options.encoding === "f32" || !values.every(Number.isFinite)) return { exact, values };
    const bytes = this.#encoder.part.encode(values);
    return { exact, values: decode(bytes, values.length, this.options.encoding) };
  }

  /** The parts of all ranks; undefined where one is missing, or this device leads no more. */
  async #collect(plan: RoundPlan, own: WorldPart, millis: number, work: RoundWork): Promise<GivenPart[] | undefined> {
    const since = performance.now();
    for (;;) {
      const parts: (GivenPart | undefined)[] = [];
      for (const { id } of plan.places) {
        parts.push(id === this.id ? { ...own, millis } : await this.#partOf(id, plan, work));
      }
      if (parts.every((part) => part !== undefined)) return parts;
      const now = performance.now();
      const isLate = now - since > this.options.deadline;
      const missing = plan.places.filter(({ id }, i) => {
        if (parts[i]) return false;
        const other = this.#others.get(id);
        return isLate || this.#stalled.has(id) || !other || now - other.at > this.#silence;
      });
      for (const { id } of missing) this.#leaveOut(id);
      if (missing.length > 0 || !(await this.#stillLeads())) return undefined;
      await this.log.wait(this.#beat);
    }
  }

  /** What a device gave for this round; undefined where nothing came yet, or it was refused. */
  async #partOf(id: Id, plan: RoundPlan, { sizeOf }: RoundWork): Promise<GivenPart | undefined> {
    const given = this.#parts.get(id);
    if (given?.head.round !== this.#round || given.head.attempt !== plan.attempt) return undefined;
    const { head, contents } = given;
    const { exact, values } = contents;
    const isFinite = exact.every(Number.isFinite) && values.every(Number.isFinite);
    const needsState = head.digest !== this.#digest;
    const fault =
      this.#faultOf(head, sizeOf(shareIn(plan, id)!)) ??
      (isFinite ? undefined : "has numbers that are not finite") ??
      (needsState ? "was computed from other tensors" : undefined);
    if (fault === undefined) return { exact, values, millis: head.millis };
    this.#parts.delete(id);
    await this.#refuse(id, fault, needsState);
    return undefined;
  }

  /**
   * Whether nobody else leads. Learns of another leader by its signs of life.
   * @throws DistributedError where the run was begun anew by a device that did not hear this one.
   */
  async #stillLeads(): Promise<boolean> {
    const isOther = this.#hearsOtherRun || [...this.#others.values()].some(({ leads }) => leads);
    this.#hearsOtherRun = false;
    const leads = !isOther || (await this.#catchUp());
    if (this.#isReplaced) throw this.#replaced();
    return leads;
  }

  #replaced(): DistributedError {
    return new DistributedError(
      `Another device has begun the run ${this.options.name} anew: it heard nothing of this one for ${this.#silence / 1000} seconds.`,
      "Save what this device has, then enter the run again; a longer --world-deadline bears slower links and devices.",
    );
  }

  #leaveOut(id: Id): void {
    const round = this.#others.get(id)?.round ?? this.#round;
    this.#stalled.set(id, Math.max(round, this.#round));
  }

  /** Appends to the log. Resolves with the messages; undefined where another device leads now. */
  async #append(kind: "plan" | "result", contents: Contents): Promise<readonly Uint8Array[] | undefined> {
    if (this.#others.size === 0) return [];
    const sent = await this.#messages(kind, contents);
    while (!(await this.log.append(sent))) if (!(await this.#catchUp())) return undefined;
    return sent;
  }

  /**
   * Reads what others have appended. A stranger's messages are passed over.
   * @returns whether this device still leads.
   */
  async #catchUp(): Promise<boolean> {
    const last = await this.log.lastSequence();
    await this.log.read();
    while (this.log.sequence < last) {
      const message = this.log.take();
      if (!message) {
        await this.log.wait(this.#beat);
        continue;
      }
      await this.#apply(message);
      if (!this.leads) return false;
    }
    await this.log.stop();
    return true;
  }

  // Parts that others give

  async #hearPart({ data }: Msg): Promise<void> {
    const head = await this.#headOf(data);
    if (!head || head.run !== this.#run) return;
    if (head.kind === "refuse") {
      this.#hearRefusal(contentsOf(head, [data]));
      return;
    }
    if (head.kind !== "part") return;
    // A part is a sign of life as well, and may come before the one that tells of its round.
    const known = this.#others.get(head.sender);
    if (known && known.round <= head.round) {
      this.#others.set(head.sender, { ...known, round: head.round, at: performance.now() });
    }
    this.#bytes = added(this.#bytes, "received", data.length, 0);
    // A device may be a moment ahead of this one.
    if (head.round < this.#round || head.round > this.#round + 1) return;
    const share = shareIn(this.#plan, head.sender);
    const isNow = head.round === this.#round && head.attempt === this.#plan.attempt && share && this.#sizeOf;
    const tooLong = head.bytes > EARLY_BYTES ? `has ${head.bytes} bytes, which is too long` : undefined;
    const fault = isNow ? this.#faultOf(head, this.#sizeOf!(share)) : tooLong;
    if (fault !== undefined) return this.#refuse(head.sender, fault);
    const assembly = this.#assemblies.get(head.sender) ?? new Assembly();
    this.#assemblies.set(head.sender, assembly);
    const complete = assembly.add(head, data);
    if (!complete) return;
    const contents = contentsOf(complete.head, complete.chunks);
    this.#parts.set(head.sender, { head: complete.head, contents });
    const size = { exact: head.exact, values: head.values };
    this.#bytes = added(this.#bytes, "received", 0, partBytes(size, this.#wire(head.encoding)));
    this.log.wake();
  }

  /** What is wrong with a part, by its head; undefined where nothing is. */
  #faultOf({ exact, values, encoding, bytes, chunks }: Head, size: RoundSize): string | undefined {
    if (exact !== size.exact || values !== size.values) {
      return `has ${exact} and ${values} numbers; this round's have ${size.exact} and ${size.values}`;
    }
    const wire = this.#wire(encoding);
    const expected = partBytes(size, wire);
    return bytes + chunks * HEAD_BYTES > expected ? `has ${bytes} bytes, which is too long` : undefined;
  }

  /** Refuses a part by name. The run goes on without it. */
  async #refuse(sender: Id, fault: string, needsState = false): Promise<void> {
    const fact = `The part of the device ${sender} ${fault}.`;
    this.#warn(`${fact} It is left out from round ${this.#round} on.`);
    this.#stalled.set(sender, this.#round);
    const [message] = await this.#messages("refuse", { record: { fact, needsState } });
    this.#publish(`to.${sender}`, [message!]);
    this.log.wake();
  }

  #hearRefusal({ record }: Received): void {
    const { fact, needsState } = checkSchema(REFUSAL, record, "the leader's refusal");
    this.#warn(`Refused by the leader: ${fact}`);
    if (needsState) this.#isSynced = false;
    this.log.wake();
  }

  // Messages

  #listen(subject: string, handle: (message: Msg) => Promise<void> | void): void {
    const subscription = this.connection.subscribe(`${this.#subject}.${subject}`);
    void (async () => {
      for await (const message of subscription) {
        // Whatever is wrong with a message must not end the run.
        try {
          await handle(message);
        } catch (error) {
          this.#warn(
            `A message was refused: ${error instanceof Error ? error.message.split("\n", 1)[0] : String(error)}`,
          );
        }
      }
    })();
  }

  #messages(
    kind: Kind,
    contents: Contents,
    { attempt = this.#plan.attempt, millis = 0 }: { readonly attempt?: number; readonly millis?: number } = {},
  ): Promise<Uint8Array[]> {
    const head = {
      kind,
      sender: this.id,
      run: this.#run,
      round: this.#round,
      digest: this.#digest,
      attempt,
      millis: Math.round(millis),
    };
    return messages(this.signer, head, contents, this.#chunk);
  }

  /** The head of a message that a device with the token sent; undefined for others, of which the first is told. */
  async #headOf(data: Uint8Array): Promise<Head | undefined> {
    const head = headOf(data);
    if (head && (await this.signer.verify(data))) return head;
    this.#hearsStrangers ||= head !== undefined;
    this.#warn(`A message was refused: it is from a stranger, who has not the token of the run ${this.options.name}.`);
    return undefined;
  }

  /** A message of this kind that stands alone. */
  async #verified(data: Uint8Array, kind: Kind): Promise<{ head: Head; contents: Received } | undefined> {
    const head = await this.#headOf(data);
    return head?.kind === kind ? { head, contents: contentsOf(head, [data]) } : undefined;
  }

  #encoding({ isExact }: RoundWork): WireEncoding {
    return isExact ? "f32" : this.options.encoding;
  }

  #wire(encoding: WireEncoding): WireOptions {
    return { encoding, chunk: this.#chunk };
  }

  #count(what: "sent" | "received", sent: readonly Uint8Array[], planned: number): void {
    const bytes = sent.reduce((sum, { length }) => sum + length, 0);
    this.#bytes = added(this.#bytes, what, bytes, planned);
  }

  /** Warns, of the same thing once. */
  #warn(text: string): void {
    if (this.#warned.has(text)) return;
    this.#warned.add(text);
    this.world.warn(text);
  }

  async leave(): Promise<void> {
    if (this.#isLeft) return;
    this.#isLeft = true;
    clearInterval(this.#timer);
    this.log.wake();
    try {
      if (this.#run !== NO_ID) await this.#sayAlive();
      const now = performance.now();
      const isLast = [...this.#others.values()].every(({ at }) => now - at > this.#silence);
      if (this.#run !== NO_ID && this.#isSynced && isLast) {
        await this.log.remove();
        await (await this.#objects()).destroy();
      }
      await this.log.stop();
      await this.connection.drain();
    } catch {
      // The server may be gone, and there is nothing left to do.
      await this.connection.close();
    }
  }
}

const noBytes = (): WireReport => ({ sent: 0, received: 0, planned: { sent: 0, received: 0 } });

function added(report: WireReport, what: "sent" | "received", bytes: number, planned: number): WireReport {
  return {
    ...report,
    [what]: report[what] + bytes,
    planned: { ...report.planned, [what]: report.planned[what] + planned },
  };
}

const isSame = (a: readonly Place[], b: readonly Place[]): boolean =>
  a.map(({ id }) => id).join() === b.map(({ id }) => id).join();

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

const copyOf = (record: unknown): unknown => (record === undefined ? undefined : JSON.parse(JSON.stringify(record)));
