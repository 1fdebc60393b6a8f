// Runs examples/browser in Chromium and takes the guide's picture of it: examples/browser/screenshot.png.
import { serve, EXAMPLE_MOUNTS } from "./serve.mjs";
import { startChromium } from "../test/browser/support/chromium";

const QUERY = "steps=60&batch=8&every=5";
const TEN_MINUTES = 600_000;

const server = await serve(EXAMPLE_MOUNTS);
const chromium = await startChromium();
try {
  const page = await chromium.browser.newPage({ viewport: { width: 860, height: 980 }, deviceScaleFactor: 1.5 });
  page.on("pageerror", (error) => console.error(String(error)));
  await page.goto(`${server.url}/examples/browser/?${QUERY}`);
  await page.click("#start");
  await page.waitForSelector("body[data-done]", { timeout: TEN_MINUTES });
  console.log(await page.textContent("#status"));
  await page.screenshot({ path: "examples/browser/screenshot.png", fullPage: true });
  await page.emulateMedia({ colorScheme: "dark" });
  if (process.argv[2]) await page.screenshot({ path: process.argv[2], fullPage: true });
} finally {
  await chromium.close();
  await server.close();
}
