import type { ConsumerMessages, JetStreamClient, JetStreamManager } from "@nats-io/jetstream";
import { DistributedError } from "./errors";
import type { Nats } from "./nats";

/** JetStream's code for a message that was appended behind another than its sender expected. */
const WRONG_LAST_SEQUENCE = 10071;

/** A message of the log with its number. */
export interface LogMessage {
  readonly sequence: number;
  readonly data: Uint8Array;
}

export interface LogOptions {
  readonly stream: string;
  readonly subject: string;
  /** Bytes of the server's memory that it may take; older messages go first. */
  readonly maxBytes: number;
  /** Milliseconds within which a message must have been taken. */
  readonly timeout: number;
}

/**
 * What the leaders of a run have said, in one order for all: a JetStream stream. A message is appended only behind the last one
 * that its sender knows, so that of two devices that both believe to lead, one learns at once that it does not.
 */
export class Log {
  /** Number of the last message that was read or appended here. */
  #sequence = 0;
  readonly #messages: LogMessage[] = [];
  #wake: (() => void) | undefined;
  #reading: ConsumerMessages | undefined;

  private constructor(
    private readonly nats: Nats,
    private readonly manager: JetStreamManager,
    private readonly client: JetStreamClient,
    private readonly stream: string,
    private readonly subject: string,
    private readonly timeout: number,
  ) {}

  /**
   * Opens a log, or makes it.
   * @throws DistributedError where the server has no JetStream, or no memory for it.
   */
  static async open(
    nats: Nats,
    connection: Parameters<Nats["jetstream"]["jetstreamManager"]>[0],
    { stream, subject, maxBytes, timeout }: LogOptions,
  ): Promise<Log> {
    const { jetstreamManager, StorageType, DiscardPolicy } = nats.jetstream;
    try {
      const manager = await jetstreamManager(connection);
      const config = {
        name: stream,
        subjects: [subject],
        storage: StorageType.Memory,
        discard: DiscardPolicy.Old,
        max_bytes: maxBytes,
      };
      await manager.streams.info(stream).catch(() => manager.streams.add(config));
      return new Log(nats, manager, manager.jetstream(), stream, subject, timeout);
    } catch (cause) {
      throw new DistributedError(
        `The server keeps no log of the run: ${cause instanceof Error ? cause.message : String(cause)}`,
        "Start nats-server with JetStream (-js), and enough memory for it.",
        { cause },
      );
    }
  }

  /** Number of the last message that was read or appended here. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Number of the log's last message. */
  async lastSequence(): Promise<number> {
    return (await this.#state()).last_seq;
  }

  async #state() {
    try {
      return (await this.manager.streams.info(this.stream)).state;
    } catch (cause) {
      throw new DistributedError(
        `The server has no log of the run any more: ${cause instanceof Error ? cause.message : String(cause)}`,
        "Look whether nats-server still runs, and resume from the last checkpoint.",
        { cause },
      );
    }
  }

  /** Whether it has messages: those of a run that goes on, or was not ended. */
  async isUsed(): Promise<boolean> {
    return (await this.#state()).messages > 0;
  }

  /** Goes on behind a message without reading. */
  async skipTo(sequence: number): Promise<void> {
    await this.stop();
    this.#sequence = sequence;
  }

  /** Begins to read behind the last message that is known here. */
  async read(): Promise<void> {
    if (this.#reading) return;
    const { DeliverPolicy } = this.nats.jetstream;
    const consumer = await this.client.consumers.get(this.stream, {
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: this.#sequence + 1,
    });
    const reading = await consumer.consume();
    this.#reading = reading;
    void this.#collect(reading);
  }

  async #collect(reading: ConsumerMessages): Promise<void> {
    try {
      for await (const { seq, data } of reading) {
        if (this.#reading !== reading) break;
        this.#messages.push({ sequence: seq, data });
        this.#wake?.();
      }
    } catch {
      // The connection is closed; whoever waits for a message learns that there is none.
    }
    this.#wake?.();
  }

  /** Stops reading, as the one that appends does. */
  async stop(): Promise<void> {
    const reading = this.#reading;
    this.#reading = undefined;
    this.#messages.length = 0;
    await reading?.close().catch(() => undefined);
  }

  /** The next message, if it is here already. */
  take(): LogMessage | undefined {
    const message = this.#messages.shift();
    if (message) this.#sequence = message.sequence;
    return message;
  }

  /** Resolves when there is a message, when `wake` is called, or after so many milliseconds. */
  async wait(milliseconds: number): Promise<void> {
    if (this.#messages.length > 0) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, milliseconds);
    });
    clearTimeout(timer);
    this.#wake = undefined;
  }

  /** Ends a wait. */
  wake(): void {
    this.#wake?.();
  }

  /**
   * Appends messages behind the last one that is known here.
   * @returns whether that was the last one; where not, none of them counts.
   */
  async append(messages: readonly Uint8Array[]): Promise<boolean> {
    const sent = messages.map((message, i) =>
      this.client.publish(this.subject, message, {
        expect: { lastSequence: this.#sequence + i },
        // A large result takes long on a slow link.
        timeout: this.timeout,
      }),
    );
    const results = await Promise.allSettled(sent);
    const failure = results.find((result) => result.status === "rejected");
    if (!failure) {
      this.#sequence += messages.length;
      return true;
    }
    // The client's errors have their code as a member.
    const { code, cause } = failure.reason as { readonly code?: unknown; readonly cause?: { readonly code?: unknown } };
    if (code === WRONG_LAST_SEQUENCE || cause?.code === WRONG_LAST_SEQUENCE) return false;
    throw new DistributedError(
      `The server did not take a message of the run: ${String(failure.reason)}`,
      "Check the server's limits: its messages, and the memory of its JetStream.",
      { cause: failure.reason },
    );
  }

  /** Removes what is older than the last message that is known here. */
  async forgetBefore(): Promise<void> {
    // Servers take the number 1 for no number, and would remove all.
    if (this.#sequence <= 1) return;
    await this.manager.streams.purge(this.stream, { seq: this.#sequence });
  }

  /** Removes the log from the server. */
  async remove(): Promise<void> {
    await this.manager.streams.delete(this.stream).catch(() => undefined);
  }
}
