import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** A link between a device and the server: delay of each direction, and bits per second of each; null for no link in between. */
export interface Link {
  readonly milliseconds: number;
  readonly megabits: number | null;
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
/** Milliseconds of a link's bytes that wait before it, as in a router. */
const BACKLOG = 20;

async function pass(from: Socket, to: Socket, { milliseconds, megabits }: Link): Promise<void> {
  const bytesPerMs = ((megabits ?? Infinity) * 1e6) / 8 / 1000;
  const waiting: { readonly due: number; readonly piece: Buffer }[] = [];
  const send = (): void => {
    while (waiting[0] && waiting[0].due <= performance.now()) to.write(waiting.shift()!.piece);
    if (waiting[0]) setTimeout(send, waiting[0].due - performance.now());
  };
  let free = performance.now();
  try {
    for await (const data of from) {
      // The stream has no encoding, so that its data are bytes.
      const bytes = data as Buffer;
      for (let at = 0; at < bytes.length; at += PIECE) {
        const piece = bytes.subarray(at, at + PIECE);
        free = Math.max(free, performance.now()) + piece.length / bytesPerMs;
        waiting.push({ due: free + milliseconds, piece });
        if (waiting.length === 1) send();
        const ahead = free - performance.now();
        if (ahead > BACKLOG) await sleep(ahead - BACKLOG);
      }
    }
  } catch {
    // Either end has closed the connection.
  }
}
