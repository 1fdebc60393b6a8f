import { existsSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { chromium } from "playwright-core";
import type { Browser, Page } from "playwright-core";

/** Root in a container cannot use the sandbox. The other flags enable WebGPU without a GPU. */
const FLAGS = ["--no-sandbox", "--disable-gpu-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
/** Flags by which Playwright keeps hidden pages at full speed, unlike ordinary browsers. */
const UNTHROTTLED = [
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
];

export interface Chromium {
  readonly browser: Browser;
  /** Opens a page that, like one in an ordinary browser, is hidden and throttled when another page is in front of it. */
  openTab(): Promise<Page>;
  /** Ends the process with all GPU devices, as a driver crash does. */
  crashGpu(): Promise<void>;
  close(): Promise<void>;
}

/** Starts this machine's Chromium, headless, with WebGPU on SwiftShader. */
export async function startChromium(): Promise<Chromium> {
  const port = await freePort();
  const browser = await chromium.launch({
    executablePath: chromiumPath(),
    args: [...FLAGS, `--remote-debugging-port=${port}`],
    ignoreDefaultArgs: UNTHROTTLED,
  });
  // Playwright makes Chromium treat its own pages as visible, but not the pages of a browser that it attaches to.
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
  // A server that listens on TCP has an AddressInfo.
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The path of Chromium: CHROME_PATH, or a usual one. @throws Error if there is none. */
export function chromiumPath(): string {
  const { CHROME_PATH } = process.env;
  const system = ["chromium", "google-chrome", "chromium-browser"].map((name) => `/usr/bin/${name}`);
  const executable = [...(CHROME_PATH ? [CHROME_PATH] : []), ...system].find((path) => existsSync(path));
  if (executable !== undefined) return executable;
  throw new Error("No Chromium was found.\nInstall it (Debian: apt-get install chromium), or set CHROME_PATH.");
}
