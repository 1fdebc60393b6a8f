// A freezing policy that was tried against SAFE, as a plugin: --plugin examples/studies/rising-horizon.mjs --freeze rising_horizon. What came of it
// is in bench/results/evidence.md.

/** Options with their defaults, and what each may be. */
const OPTIONS = {
  // Growth of importance, as a share of all live layers' growth, that is given up for as large a share of the return.
  exchange: [0.5, (value) => value >= 0],
  // Scorings from which growth is estimated. Nothing freezes before there are as many.
  window: [4, (value) => Number.isInteger(value) && value >= 3],
  // Standard errors that are added to a layer's growth: the noisier its scores, the later it freezes.
  margin: [1, (value) => value >= 0],
  // Steps between scorings. Default a twentieth of the run.
  every: [undefined, (value) => Number.isInteger(value) && value >= 1],
  // What CKA compares a layer's output with, as in SAFE.
  reference: ["original", (value) => value === "original" || value === "own"],
  // Whether to subtract column means before CKA, as its definition does.
  center: [true, (value) => typeof value === "boolean"],
};

/**
 * Freezes from below, since memory and time follow the lowest live adapter alone. Every so many steps it estimates how fast the importance of
 * each layer still grows (SAFE's 1 - CKA, least squares over the last `window` scorings, plus `margin` standard errors), and what
 * each prefix of the live layers would return: the mean of its shares of the bytes and of the FLOPs that freezing all layers but the highest
 * returns. The longest prefix freezes whose share of the growth is at most `exchange` times its share of the return.
 *
 * What is left of the run scales growth and return alike, so that the rule needs no schedule. The highest live layer is never frozen.
 * Saves what SAFE saves for a frozen prefix; the peak is that of the first `window` scorings.
 * @throws Error for an option that does not exist, or a value that makes no sense.
 */
function risingHorizon(given) {
  const settings = settingsOf(given);
  const { exchange, window, margin, every, reference, center } = settings;
  return {
    kind: "freezing",
    name: "rising_horizon",
    settings,
    usesImportance: reference,
    mayFreeze: ({ layer }, layers) => typeof layer === "number" && layer < layers - 1,
    start({ totalSteps }) {
      const interval = every ?? Math.max(1, Math.floor(totalSteps / 20));
      let history = [];
      return {
        isDue: ({ step }) => step > 0 && step % interval === 0,
        async decide(context) {
          const layers = [...context.live.keys()].sort((a, b) => a - b);
          if (layers.length < 2) return [];
          const importance = await context.importance({ center });
          const scores = Object.fromEntries(layers.map((layer) => [layer, importance.get(layer) ?? 0]));
          const past = [...history, { scores }].slice(-window).map((each) => each.scores);
          const growth = past.length < window ? undefined : layers.map((layer) => growthOf(past, layer, margin));
          const frozen = growth ? layers.slice(0, prefixLength(context, layers, growth, exchange)) : [];
          const named = growth && { growth: Object.fromEntries(growth.map((value, i) => [layers[i], value])) };
          history.push({ step: context.step, scores, ...named, frozen });
          return tensorsOf(context, frozen);
        },
        record: () => ({ history }),
        save: () => [...history],
        restore(saved) {
          if (!Array.isArray(saved) || !saved.every(isScoring)) {
            throw new Error("the history of rising_horizon in a checkpoint is not one.");
          }
          history = saved;
        },
      };
    },
  };
}

function settingsOf(given) {
  const wrong = Object.entries(given).find(
    ([name, value]) => !(Object.hasOwn(OPTIONS, name) && OPTIONS[name][1](value)),
  );
  if (wrong)
    throw new Error(`${wrong[0]} is ${JSON.stringify(wrong[1])}; options are ${Object.keys(OPTIONS).join(", ")}.`);
  return { ...Object.fromEntries(Object.entries(OPTIONS).map(([name, [value]]) => [name, value])), ...given };
}

const isScoring = (each) =>
  typeof each?.step === "number" && typeof each.scores === "object" && Array.isArray(each.frozen);

const tensorsOf = ({ live }, layers) => layers.flatMap((layer) => live.get(layer) ?? []);

/** The slope of a layer's scores by scoring, plus standard errors of the slope; at least 0. */
function growthOf(past, layer, margin) {
  const scores = past.map((each) => each[layer] ?? 0);
  const middle = (scores.length - 1) / 2;
  const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
  const spread = scores.reduce((sum, _, i) => sum + (i - middle) ** 2, 0);
  const slope = scores.reduce((sum, score, i) => sum + (i - middle) * (score - mean), 0) / spread;
  const residual = scores.reduce((sum, score, i) => sum + (score - mean - slope * (i - middle)) ** 2, 0);
  return Math.max(0, slope + margin * Math.sqrt(residual / (scores.length - 2) / spread));
}

/** How many of the lowest live layers freeze. */
function prefixLength(context, layers, growth, exchange) {
  const total = growth.reduce((sum, value) => sum + value, 0);
  const returned = layers.map((_, length) => {
    const { savedBytes, stateBytes, flops } = context.effect(tensorsOf(context, layers.slice(0, length)));
    return { bytes: savedBytes + stateBytes, flops };
  });
  const most = returned.at(-1);
  const share = (value, of) => (of > 0 ? value / of : 0);
  let given = 0;
  let chosen = 0;
  for (const [i, value] of growth.slice(0, -1).entries()) {
    given += value;
    const { bytes, flops } = returned[i + 1];
    const gained = (share(bytes, most.bytes) + share(flops, most.flops)) / 2;
    if (gained > 0 && share(given, total) <= exchange * gained) chosen = i + 1;
  }
  return chosen;
}

export const policies = { rising_horizon: risingHorizon };
