// Goes through the studio in Chromium with the example, and takes pictures: docs/pictures/studio-plan.png and studio-train.png, and
// studio-steps.png, a sheet with all steps.
//
//   npm run studio:pictures [-- FOLDER_FOR_ALL_STEPS_LIGHT_AND_DARK]
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  giveData,
  goToPlan,
  openExample,
  press,
  said,
  startStudio,
  startTraining,
} from "../test/browser/support/studio";

/** Steps that have a picture of their own in the guide. */
const IN_GUIDE = ["plan", "train"];
const WIDTH = 960;
/** Pixels of the guide's pictures at most, from the top. */
const MOST = 1100;
/** Pixels of a step on the sheet, before it is made smaller. */
const ON_SHEET = 1000;
/** SwiftShader needs seconds for a step of whole rows. */
const SMALL = { rows: 240, batch: 4, length: 10, epochs: 1 };

const [out] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "safetape-pictures-"));
const studio = await startStudio();
try {
  const lines = readFileSync("examples/data/sentiment/train.tsv", "utf8").split("\n");
  const data = join(folder, "reviews.tsv");
  writeFileSync(
    data,
    `${[...lines.slice(0, 20), "a line without a class", ...lines.slice(20, SMALL.rows + 1)].join("\n")}\n`,
  );
  const { page, problems } = await studio.open({ viewport: { width: WIDTH, height: ON_SHEET } });
  const sheet: { readonly name: string; readonly png: Buffer }[] = [];
  const picture = async (name: string): Promise<void> => {
    await page.evaluate(() => scrollTo(0, 0));
    sheet.push({ name, png: await page.screenshot() });
    if (IN_GUIDE.includes(name)) {
      const path = `docs/pictures/studio-${name}.png`;
      const height = Math.min(MOST, await page.evaluate(() => document.body.scrollHeight));
      await page.screenshot({ path, fullPage: true, clip: { x: 0, y: 0, width: WIDTH, height } });
      console.log(path);
    }
    if (out === undefined) return;
    mkdirSync(out, { recursive: true });
    await page.screenshot({ path: join(out, `${name}.png`), fullPage: true });
    await page.emulateMedia({ colorScheme: "dark" });
    await page.screenshot({ path: join(out, `${name}-dark.png`), fullPage: true });
    await page.emulateMedia({ colorScheme: "light" });
  };
  await openExample(page);
  await picture("model");
  await press(page, "Next: data");
  await giveData(page, [data]);
  await picture("data");
  await goToPlan(page);
  await page.locator("#plan summary").last().click();
  await picture("plan");
  await page.getByLabel(/^Longest row/).fill(String(SMALL.length));
  await page.getByLabel(/^Rows of a batch/).fill(String(SMALL.batch));
  await page.getByLabel(/^Epochs/).fill(String(SMALL.epochs));
  await startTraining(page);
  await said(page, /^Trained\. accuracy/);
  // Figures are put in one frame after the other.
  await page.waitForFunction(() => document.querySelectorAll("#train .picture > svg").length >= 5);
  await picture("train");
  await press(page, "Next: try it");
  await page.getByLabel("A text").fill("the hotel was worse than the superb reception .");
  await press(page, "Classify");
  await page.waitForSelector("#try form table");
  await picture("try");
  await press(page, "Next: take it away");
  await picture("take");
  await drawSheet(sheet);
  for (const problem of problems) console.error(problem);
} finally {
  await studio.close();
  rmSync(folder, { recursive: true, force: true });
}

/** Puts the steps side by side, in two rows of three, at half their size. */
async function drawSheet(steps: readonly { readonly name: string; readonly png: Buffer }[]): Promise<void> {
  const path = "docs/pictures/studio-steps.png";
  const width = WIDTH / 2;
  const page = await studio.chromium.browser.newPage({ viewport: { width: 3 * (width + 20), height: 100 } });
  const images = steps.map(
    ({ name, png }) => `<img alt="${name}" width="${width}" src="data:image/png;base64,${png.toString("base64")}">`,
  );
  const style = "margin: 0; background: #c9ccd1; display: grid; grid-template-columns: repeat(3, 1fr); gap: 20px";
  await page.setContent(`<body style="${style}; padding: 10px">${images.join("")}</body>`);
  await page.screenshot({ path, fullPage: true });
  console.log(path);
}
