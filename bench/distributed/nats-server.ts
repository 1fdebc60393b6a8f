import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { natsServer } from "./from-root";

export interface NatsServer {
  /** Address for Node. */
  readonly address: string;
  /** Address for pages. */
  readonly websocket: string;
  readonly stop: () => Promise<void>;
}

export interface NatsServerOptions {
  /** Address to listen on. Default loopback. */
  readonly host?: string;
  /** Bytes of the largest message. Default the server's. */
  readonly maxPayload?: number;
  /** Further lines of its configuration. */
  readonly config?: string;
}

/** Addresses by kind, as the server writes them into a file. */
interface Ports {
  readonly nats: readonly string[];
  readonly websocket: readonly string[];
}

/** Why no server can be started on this machine; undefined where one can. */
export async function whyNoNats(): Promise<string | undefined> {
  const found = await natsServer();
  return "reason" in found ? found.reason : undefined;
}

/** Starts a server with JetStream on ports that are free. @throws Error where there is none. */
export async function startNats({
  host = "127.0.0.1",
  maxPayload,
  config = "",
}: NatsServerOptions = {}): Promise<NatsServer> {
  const found = await natsServer();
  if ("reason" in found) throw new Error(found.reason);
  const folder = mkdtempSync(join(tmpdir(), "safetape-nats-"));
  const lines = [
    `listen: "${host}:-1"`,
    `ports_file_dir: ${JSON.stringify(folder)}`,
    `jetstream { store_dir: ${JSON.stringify(join(folder, "store"))} }`,
    `websocket { host: "${host}", port: -1, no_tls: true }`,
    ...(maxPayload === undefined ? [] : [`max_payload: ${maxPayload}`]),
    config,
  ];
  const file = join(folder, "nats.conf");
  writeFileSync(file, lines.join("\n"));
  const server = spawn(found.program, ["-c", file], { stdio: "ignore" });
  const ended = new Promise((resolve) => server.once("close", resolve));
  const stop = async (): Promise<void> => {
    server.kill();
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  for (let tries = 0; tries < 100; tries++) {
    const ports = readdirSync(folder).find((name) => name.endsWith(".ports"));
    const text = ports === undefined ? "" : readFileSync(join(folder, ports), "utf8");
    if (text.endsWith("}")) {
      // The server's own file.
      const { nats, websocket } = JSON.parse(text) as Ports;
      return { address: nats[0]!, websocket: websocket[0]!, stop };
    }
    await sleep(50);
  }
  await stop();
  throw new Error("nats-server did not start within five seconds.");
}
