import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { build } from "tsup";
import type { Options } from "tsup";
import { serve } from "../../../scripts/serve.mjs";
import { wgslModules } from "../../../scripts/wgsl-modules.mjs";
import { startChromium } from "./chromium";
import type { Chromium } from "./chromium";

type Plugin = NonNullable<Options["esbuildPlugins"]>[number];

/** Resolves `safetape` and its subpaths to the published files, which the server provides. */
const publishedPackage: Plugin = {
  name: "published-package",
  setup(builder) {
    builder.onResolve({ filter: /^safetape(?:\/\w+)?$/ }, ({ path }) => ({
      path: `/dist/${path.split("/")[1] ?? "index"}.js`,
      external: true,
    }));
  },
};

type Intercept = NonNullable<NonNullable<Parameters<typeof serve>[1]>["intercept"]>;

/** A server of the published files and of these tests' pages, with a strict policy. */
export interface PageServer {
  readonly url: string;
  /** A folder of this server, served as /files/. */
  readonly files: string;
  close(): Promise<void>;
}

/** Bundles scripts of test/browser/pages and serves a page for each at /files/pages/NAME.html. */
export async function servePages(scripts: readonly string[], intercept?: Intercept): Promise<PageServer> {
  const files = mkdtempSync(join(tmpdir(), "safetape-browser-"));
  const pages = join(files, "pages");
  await build({
    config: false,
    outDir: pages,
    format: "esm",
    platform: "browser",
    target: "es2022",
    silent: true,
    entry: Object.fromEntries(scripts.map((name) => [name, `test/browser/pages/${name}.ts`])),
    noExternal: [/^(?!safetape(?:\/\w+)?$)/],
    splitting: false,
    dts: false,
    esbuildPlugins: [publishedPackage, wgslModules()],
  });
  for (const name of scripts) writeFileSync(join(pages, `${name}.html`), html(name));
  const mounts = { "/dist/": "dist", "/examples/": "examples", "/golden/": "test/golden", "/files/": files };
  const server = await serve(mounts, intercept ? { intercept } : {});
  return {
    files,
    url: server.url,
    close: async () => {
      await server.close();
      rmSync(files, { recursive: true, force: true });
    },
  };
}

export interface Session extends PageServer {
  readonly chromium: Chromium;
  /** Opens a page that runs a script of test/browser/pages, in a new page or in the given tab. */
  open(script: string, tab?: Page): Promise<Page>;
}

/** Starts Chromium beside a server of pages. */
export async function startSession(scripts: readonly string[], intercept?: Intercept): Promise<Session> {
  const server = await servePages(scripts, intercept);
  const chromium = await startChromium();
  return {
    ...server,
    chromium,
    open: async (script, tab) => {
      const page = tab ?? (await chromium.browser.newPage());
      page.on("pageerror", (error) => process.stderr.write(`${script}: ${String(error)}\n`));
      await page.goto(`${server.url}/files/pages/${script}.html`);
      await page.waitForFunction("globalThis.page !== undefined");
      return page;
    },
    close: async () => {
      await chromium.close();
      await server.close();
    },
  };
}

const html = (script: string): string =>
  `<!doctype html><meta charset="utf-8"><title>${script}</title><link rel="icon" href="data:,">` +
  `<script type="module" src="${script}.js"></script>`;

// Functions of any parameters can be assigned to `any[]` only.
// oxlint-disable-next-line typescript/no-explicit-any
export type Functions = Record<string, (...values: any[]) => unknown>;

/** Calls a function of the object that a page assigned to `globalThis.page`, by name. */
export type Caller<P extends Functions> = <K extends keyof P & string>(
  name: K,
  args: Parameters<P[K]>,
) => Promise<Awaited<ReturnType<P[K]>>>;

/** A function that calls the functions of a page. */
export function caller<P extends Functions>(page: Page): Caller<P> {
  // Runs in the page, whose script has assigned `page`.
  const callInPage = ([name, args]: [string, unknown[]]): unknown =>
    (globalThis as unknown as { page: Functions }).page[name]?.(...args);
  const call = (name: string, args: unknown[]): Promise<unknown> => {
    const argument: [string, unknown[]] = [name, args];
    return page.evaluate(callInPage, argument);
  };
  // `page.evaluate` cannot relate the types of results to names of functions in the page.
  return call as Caller<P>;
}
