import type { Stage, Swin } from "./swin-stages";
import { mergedTokens, placesOf, windowCount, windowRegions, windowTokens } from "./windows";
import type { Windows } from "./windows";

/** Names of the inputs of a stage's windows. */
export function windowNames({ index }: Stage, { shift }: Windows) {
  const of = `windows of stage ${index}${shift > 0 ? ", shifted" : ""}`;
  return { tokens: `tokens of ${of}`, places: `places in ${of}`, regions: `regions of ${of}`, seeds: `seeds of ${of}` };
}

/** Names of the inputs of the merging before a stage. */
export const mergingNames = ({ index }: Stage) => ({
  tokens: `tokens merged in stage ${index}`,
  places: `places merged in stage ${index}`,
});

export const positionEntries = ({ windows: [{ window }] }: Stage): number => (2 * window - 1) ** 2;

/** Differences of positions in a window of Swin v2, row and column, on a logarithmic scale on which 8 becomes log2(9) / 3. */
function positionDifferences({ windows: [{ window }], learnedWindow }: Stage): Float32Array {
  const side = 2 * window - 1;
  const place = (difference: number): number => {
    const t = learnedWindow > 1 ? (8 * difference) / (learnedWindow - 1) : 0;
    return (Math.sign(t) * Math.log2(Math.abs(t) + 1)) / 3;
  };
  return Float32Array.from({ length: 2 * side ** 2 }, (_, i) => {
    const entry = Math.floor(i / 2);
    return place((i % 2 === 0 ? Math.floor(entry / side) : entry % side) - (window - 1));
  });
}

type Constants = Record<string, Float32Array | Int32Array | Uint32Array>;

/** Values of the inputs of all stages, for a batch of so many images. */
export function constantsOf(s: Swin, images: number, seeds: (parts: number) => Uint32Array): Constants {
  const lastTokens = s.stages.at(-1)!.windows[0].side ** 2;
  const constants: Constants = {
    mean_of_tokens: new Float32Array(lastTokens).fill(1 / lastTokens),
    ones: new Float32Array(images).fill(1),
  };
  for (const stage of s.stages) {
    const tokens = stage.windows[0].side ** 2;
    constants[`images of ${tokens} tokens`] = Int32Array.from({ length: images * tokens }, (_, i) =>
      Math.floor(i / tokens),
    );
    for (const windows of stage.windows) Object.assign(constants, windowConstants(stage, windows, images, seeds));
    if (stage.index > 0) Object.assign(constants, mergingConstants(s, stage));
    if (s.family === "swinv2") Object.assign(constants, positionConstants(stage));
  }
  return constants;
}

function windowConstants(
  stage: Stage,
  windows: Windows,
  images: number,
  seeds: (parts: number) => Uint32Array,
): Constants {
  const names = windowNames(stage, windows);
  const tokens = windowTokens(windows);
  // Without a shift all tokens see each other, what fills the map up included.
  const regions = windows.shift > 0 ? windowRegions(windows) : new Int32Array(tokens.length).fill(1);
  const ofImages = new Int32Array(images * regions.length);
  for (let image = 0; image < images; image++) ofImages.set(regions, image * regions.length);
  return {
    [names.tokens]: tokens,
    [names.places]: placesOf(tokens, windows.side ** 2),
    [names.regions]: ofImages,
    [names.seeds]: seeds(windowCount(windows)),
  };
}

function mergingConstants(s: Swin, stage: Stage): Constants {
  const names = mergingNames(stage);
  const { side } = s.stages[stage.index - 1]!.windows[0];
  const tokens = mergedTokens(side);
  return { [names.tokens]: tokens, [names.places]: placesOf(tokens, side ** 2) };
}

function positionConstants(stage: Stage): Constants {
  const { index, width, heads } = stage;
  const headSize = width / heads;
  return {
    [`ones of stage ${index}`]: new Float32Array(headSize).fill(1),
    [`heads of stage ${index}`]: Int32Array.from({ length: width }, (_, i) => Math.floor(i / headSize)),
    [`positions of stage ${index}`]: positionDifferences(stage),
  };
}
