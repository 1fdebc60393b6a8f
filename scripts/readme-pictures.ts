// Draws the README's pictures from the record of the demo's run with SAFE.
//
//   npm run demo && npm run readme:pictures
import { openDirectory } from "../src/node/index";
import { readRunRecord } from "../src/node/entry/analysis";
import { pngRenderer } from "../src/report/png";
import { pictures } from "../src/report/save";

const PICTURES = ["memory.png", "adapters.png"];

const record = await readRunRecord(await openDirectory("demo-output/safe"));
const render = await pngRenderer();
const out = await openDirectory("docs/pictures", { create: true });
for (const { file, svg } of pictures(record).filter(({ file: name }) => PICTURES.includes(name))) {
  await out.write(file, render(svg));
  console.log(`docs/pictures/${file}`);
}
