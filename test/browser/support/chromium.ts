import { existsSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { chromium } from "playwright-core";
import type { Browser, Page } from "playwright-core";

/** No sandbox: containers' root has none. The rest makes WebGPU work without a GPU. */
const FLAGS = ["--no-sandbox", "--disable-gpu-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
/** Playwright keeps hidden pages running at full speed; people's browsers do not. */
const UNREAL = [
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
];

export interface Chromium {
  readonly browser: Browser;
  /** A page that is hidden and throttled as in a browser that nothing drives, when another page comes before it. */
  openTab(): Promise<Page>;
  /** Ends the process that holds all devices, as a driver that crashes does. */
  crashGpu(): Promise<void>;
  close(): Promise<void>;
}

/** Starts the Chromium of this machine, headless, with WebGPU on SwiftShader. */
export async function startChromium(): Promise<Chromium> {
  const port = await freePort();
  const browser = await chromium.launch({
    executablePath: chromiumPath(),
    args: [...FLAGS, `--remote-debugging-port=${port}`],
    ignoreDefaultArgs: UNREAL,
  });
  // Playwright says of its own pages that they are in front; of those it only attaches to, it does not.
  const attached = await chromium.connectOverCDP(`http://127.0.0.1:${port}`, { noDefaults: true });
  return {
    browser,
    openTab: async () => {
      const [context] = attached.contexts();
      if (!context) throw new Error("Chromium has no default context.");
      return context.newPage();
    },
    crashGpu: async () => {
      await (await browser.newBrowserCDPSession()).send("Browser.crashGpuProcess");
    },
    close: async () => {
      await attached.close();
      await browser.close();
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export function chromiumPath(): string {
  const { CHROME_PATH } = process.env;
  const system = ["chromium", "google-chrome", "chromium-browser"].map((name) => `/usr/bin/${name}`);
  const found = [...(CHROME_PATH ? [CHROME_PATH] : []), ...system].find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new Error("No Chromium was found.\nInstall it (Debian: apt-get install chromium), or set CHROME_PATH.");
}
