// Goes through the studio in Chromium with the example, and takes the guide's pictures of its steps: docs/pictures/studio-*.png.
//
//   npm run studio:pictures [-- FOLDER_FOR_ALL_STEPS_LIGHT_AND_DARK]
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { giveData, openExample, press, said, startStudio } from "../test/browser/support/studio";

/** Steps whose pictures the guide has. */
const IN_GUIDE = ["plan", "train"];
const WIDTH = 960;
/** Pixels of the guide's pictures at most, from the top. */
const MOST = 1100;
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
  const { page, problems } = await studio.open({ viewport: { width: WIDTH, height: 900 } });
  const picture = async (name: string): Promise<void> => {
    // Without the shadow of a focus that only the keyboard shows.
    await page.evaluate(() => scrollTo(0, 0));
    const file = join(folder, `${name}.png`);
    await page.screenshot({ path: file, fullPage: true });
    if (IN_GUIDE.includes(name)) {
      const path = `docs/pictures/studio-${name}.png`;
      const height = await page.evaluate(() => document.body.scrollHeight);
      await page.screenshot({
        path,
        fullPage: true,
        clip: { x: 0, y: 0, width: WIDTH, height: Math.min(height, MOST) },
      });
      console.log(`docs/pictures/studio-${name}.png`);
    }
    if (out === undefined) return;
    mkdirSync(out, { recursive: true });
    copyFileSync(file, join(out, `${name}.png`));
    await page.emulateMedia({ colorScheme: "dark" });
    await page.screenshot({ path: join(out, `${name}-dark.png`), fullPage: true });
    await page.emulateMedia({ colorScheme: "light" });
  };
  await openExample(page);
  await picture("model");
  await press(page, "Next: data");
  await giveData(page, [data]);
  await picture("data");
  await press(page, "Next: plan");
  await page.waitForSelector("#plan .layer");
  await page.locator("#plan summary").last().click();
  await picture("plan");
  await page.getByLabel(/^Longest row/).fill(String(SMALL.length));
  await page.getByLabel(/^Rows of a batch/).fill(String(SMALL.batch));
  await page.getByLabel(/^Epochs/).fill(String(SMALL.epochs));
  await press(page, "Train");
  await press(page, "Start training");
  await said(page, /^Trained\. accuracy/);
  await picture("train");
  await press(page, "Next: try it");
  await page.getByLabel("A text").fill("the hotel was worse than the superb reception .");
  await press(page, "Classify");
  await page.waitForSelector("#try form table");
  await picture("try");
  await press(page, "Next: take it away");
  await picture("take");
  for (const problem of problems) console.error(problem);
} finally {
  await studio.close();
  rmSync(folder, { recursive: true, force: true });
}
