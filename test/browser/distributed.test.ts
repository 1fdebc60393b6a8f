import { afterAll, beforeAll, expect, it } from "vitest";
import { DeviceProcess } from "../../bench/distributed/devices";
import { startNats, whyNoNats } from "../../bench/distributed/nats-server";
import type { NatsServer } from "../../bench/distributed/nats-server";
import { driverEnvironment, findDrivers } from "../../scripts/vulkan/drivers.mjs";
import type { DistributedPage } from "./pages/distributed";
import { caller, startSession } from "./support/session";
import type { Session } from "./support/session";

const reason = await whyNoNats();
const llvmpipe = findDrivers().find(({ name }) => name === "llvmpipe");
let server: NatsServer;
let session: Session;

const HTML = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script type="module" src="distributed.js"></script>`;

beforeAll(async () => {
  if (reason !== undefined) return;
  server = await startNats();
  session = await startSession(["distributed"], (request, response) => {
    if (request.url !== "/files/pages/distributed.html") return false;
    const policy = "default-src 'none'; script-src 'self'; connect-src 'self' ws://127.0.0.1:*";
    response.writeHead(200, { "content-type": "text/html", "content-security-policy": policy });
    response.end(HTML);
    return true;
  });
});
afterAll(async () => {
  if (reason !== undefined) return;
  await session.close();
  await server.stop();
});

it.skipIf(reason !== undefined)(
  `Node on llvmpipe and Chromium on SwiftShader train one run to the same bits${reason === undefined ? "" : ` (left out: ${reason})`}`,
  async () => {
    const subject = { steps: 6, batch: 8, policy: "fixed" } as const;
    // Compiling takes a page seconds where other tests run beside it.
    const run = { run: "mixed", deadline: 40, devices: 2, token: "secret" };
    const env = { ...driverEnvironment(llvmpipe!), SAFETAPE_ADAPTER: "llvmpipe" };
    const device = await DeviceProcess.start(
      { subject, join: { servers: server.address, ...run }, tellsWeights: true },
      env,
    );
    const call = caller<DistributedPage>(await session.open("distributed"));
    const page = await call("takePart", [subject, { servers: server.websocket, ...run }]);
    const node = await device.end();
    const alone = await (await DeviceProcess.start({ subject, tellsWeights: true }, env)).end();
    expect(page.gpu.toLowerCase()).toContain("swiftshader");
    expect(page.steps, "steps that the page took part in").toBeGreaterThan(3);
    expect(page.digest).toBe(node.done);
    expect(page.losses).toEqual(node.losses);
    expect(page.left, "bytes left in the ledger").toBe(0);
    node.losses.forEach((loss, i) => expect(loss, `loss of step ${i + 1}`).toBeCloseTo(alone.losses[i]!, 4));
    for (const [name, values] of Object.entries(alone.weights)) {
      const worst = Math.max(...values.map((value, i) => Math.abs(value - node.weights[name]![i]!)));
      expect(worst, name).toBeLessThan(2e-3);
    }
  },
);
