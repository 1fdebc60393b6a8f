import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** A link between a device and the server: delay of each direction, and bits per second of each. */
export interface Link {
  readonly milliseconds: number;
  readonly megabits: number;
}

/** A relay that is as slow as a link: TCP in front of a server on loopback. Kernels without netem have nothing better. */
export async function relay(port: number, link: Link): Promise<{ readonly port: number; readonly close: () => void }> {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      sockets.add(socket);
      socket
        .on("error", () => undefined)
        .on("close", () => {
          sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
    }
    void pass(near, far, link);
    void pass(far, near, link);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  // A server that listens on TCP has an AddressInfo.
  const address = server.address() as AddressInfo;
  const close = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return { port: address.port, close };
}

/** Bytes that are sent at once, so that a slow link is not a sequence of long waits. */
const PIECE = 1 << 14;

async function pass(from: Socket, to: Socket, { milliseconds, megabits }: Link): Promise<void> {
  const bytesPerMs = (megabits * 1e6) / 8 / 1000;
  let free = performance.now();
  try {
    for await (const data of from) {
      // The stream has no encoding, so that its data are bytes.
      const bytes = data as Buffer;
      for (let at = 0; at < bytes.length; at += PIECE) {
        const piece = bytes.subarray(at, at + PIECE);
        free = Math.max(free, performance.now()) + piece.length / bytesPerMs;
        const due = free + milliseconds;
        setTimeout(() => to.write(piece), Math.max(0, due - performance.now()));
        // What is on its way may fill the link, and no more than a moment of it waits before.
        const ahead = free - performance.now();
        if (ahead > 5) await sleep(ahead - 2);
      }
    }
  } catch {
    // Either end has closed the connection.
  }
}
