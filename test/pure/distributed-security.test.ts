import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it, onTestFinished } from "vitest";
import { join } from "safetape/distributed";
import type { JoinOptions } from "safetape/distributed";
import { startNats, whyNoNats } from "../../bench/distributed/nats-server";
import { authenticatorOf } from "../../src/cli/world";
import { failure } from "../support/failure";
import { useFolder } from "../support/folder";
import { certificateIn, credentials, whyNoCertificate } from "../support/nats-security";

// NATS' own means, which keep strangers from a server on a network.

const path = useFolder();
const reason = await whyNoNats();
const noTls = reason ?? whyNoCertificate();
const named = (name: string, why: string | undefined): string =>
  why === undefined ? name : `${name} (left out: ${why})`;

/** Two devices enter a run and have one round. */
async function shareRound(options: JoinOptions): Promise<void> {
  const device = { identity: {}, gpu: "one", warn: () => undefined };
  const [a, b] = [await join(options).enter(device), await join(options).enter(device)];
  onTestFinished(() => Promise.all([a.leave(), b.leave()]).then(() => undefined));
  const state = Uint8Array.of(1);
  const given = b.fetchState();
  while (b.needsState) {
    await a.meet(() => Promise.resolve(state));
    await sleep(20);
  }
  expect(await given).toEqual(state);
  const result = { exact: Float32Array.of(5), values: new Float32Array() };
  const work = { sizeOf: () => ({ exact: 0, values: 0 }), join: () => result };
  for (const { exact } of await Promise.all([a.round(work), b.round(work)])) expect([...exact]).toEqual([5]);
}

async function expectRefusal(servers: string, connection: object): Promise<void> {
  const world = join({ servers, run: "stranger", connection: { ...connection, reconnect: false } });
  const error = await failure(world.enter({ identity: {}, gpu: "one", warn: () => undefined }));
  expect(error.message).toContain("does not let this device in");
}

it.skipIf(noTls !== undefined)(named("TLS and a password let in who has both", noTls), async () => {
  const { ca, config } = certificateIn(path());
  const server = await startNats({ config: `${config}\nauthorization { user: "class", password: "room" }` });
  onTestFinished(() => server.stop());
  const servers = `tls://127.0.0.1:${server.address.split(":").at(-1)}`;
  const login = { user: "class", pass: "room", tls: { ca } };
  await shareRound({ servers, run: "tls", deadline: 6, connection: login });
  await expectRefusal(servers, { ...login, pass: "wrong" });
  // A certificate that nobody known has signed.
  await expectRefusal(servers, { ...login, tls: {} });
});

it.skipIf(reason !== undefined)(named("a credentials file lets in who has it", reason), async () => {
  const { file, config } = credentials();
  const server = await startNats({ config });
  onTestFinished(() => server.stop());
  writeFileSync(path("user.creds"), file);
  const authenticator = await authenticatorOf(path("user.creds"));
  await shareRound({ servers: server.address, run: "creds", deadline: 6, connection: { authenticator } });
  await expectRefusal(server.address, {});
});
