// @ts-check
// Seeds of the readers of JSON files.

/** @param {(path: string) => Buffer} valid */
export function jsonSeeds(valid) {
  const families = ["bert", "gpt2", "llama", "roberta", "vit"];
  const kinds = ["lora", "rslora", "adalora", "ia3", "prompt", "vera"];
  const tokenizers = ["bert", "gpt2", "roberta"];
  /** @param {readonly string[]} names @param {(name: string) => string} path */
  const copies = (names, path) => Object.fromEntries(names.map((name) => [name, valid(path(name))]));
  const config = JSON.parse(String(valid("interop-data/bert/base/config.json")));
  const adapter = JSON.parse(String(valid("interop-data/bert/rslora/adapter_config.json")));
  const bert = JSON.parse(String(valid("interop-data/tokenizers/bert/tokenizer.json")));
  const gpt2 = JSON.parse(String(valid("interop-data/tokenizers/gpt2/tokenizer.json")));
  return {
    config: { ...copies(families, (name) => `interop-data/${name}/base/config.json`), ...configs(config) },
    "adapter-config": {
      ...copies(kinds, (name) => `interop-data/bert/${name}/adapter_config.json`),
      ...adapterConfigs(adapter),
    },
    tokenizer: {
      ...copies(tokenizers, (name) => `interop-data/tokenizers/${name}/tokenizer.json`),
      ...tokenizerFiles(bert, gpt2),
    },
    "tokenizer-config": {
      ...copies(tokenizers, (name) => `interop-data/tokenizers/${name}/tokenizer_config.json`),
      "length-1e308": '{"model_max_length":1e308}',
      "length-negative": '{"model_max_length":-1}',
      proto: '{"__proto__":{"pad_token":"x"},"pad_token":{"content":"[PAD]","__proto__":{"a":1}}}',
      "token-without-content": '{"pad_token":{"__type":"AddedToken"}}',
      "auto-map": '{"auto_map":{"AutoTokenizer":["../../evil.py",null]},"tokenizer_class":"../Evil"}',
    },
    preprocessor: preprocessors(),
  };
}

const DEEP = `${"[".repeat(20000)}${"]".repeat(20000)}`;

/** @param {Record<string, unknown>} bert @returns {Record<string, string>} */
function configs(bert) {
  /** @param {Record<string, unknown>} changes */
  const changed = (changes) => JSON.stringify({ ...bert, ...changes });
  return {
    "layers-2-31": changed({ num_hidden_layers: 2 ** 31 }),
    "layers-1e6": changed({ num_hidden_layers: 1e6 }),
    "layers-negative": changed({ num_hidden_layers: -1 }),
    "hidden-1e308": changed({ hidden_size: 1e308, intermediate_size: 1e308 }),
    "vocabulary-2-53": changed({ vocab_size: 2 ** 53 }),
    "heads-do-not-divide": changed({ num_attention_heads: 5 }),
    "heads-zero": changed({ num_attention_heads: 0 }),
    "labels-2-31": changed({ num_labels: 2 ** 31, id2label: null }),
    "padding-beyond": changed({ pad_token_id: 1e15 }),
    "epsilon-infinite": JSON.stringify(bert).replace(/"layer_norm_eps":[^,]+/, '"layer_norm_eps":1e999'),
    "epsilon-nan": JSON.stringify(bert).replace(/"layer_norm_eps":[^,]+/, '"layer_norm_eps":NaN'),
    "type-is-a-path": changed({ model_type: "../bert", architectures: ["../../etc/passwd"] }),
    "type-of-objects": changed({ model_type: "constructor", architectures: ["__proto__"] }),
    "activation-of-objects": changed({ hidden_act: "constructor" }),
    "remote-code": changed({ auto_map: { AutoModel: "evil--modeling.Evil" } }),
    "quantised-oddly": changed({ quantization_config: { quant_method: "__proto__", load_in_4bit: "yes" } }),
    proto: `{"__proto__":{"num_hidden_layers":1},${JSON.stringify(bert).slice(1)}`,
    "duplicate-keys": `${JSON.stringify(bert).slice(0, -1)},"num_hidden_layers":1}`,
    "lone-surrogate": changed({ id2label: { 0: "\ud800" } }),
    bom: `\ufeff${JSON.stringify(bert)}`,
    nul: `${JSON.stringify(bert)}\u0000`,
    list: "[]",
    null: "null",
    nothing: "",
    deep: `{"a":${DEEP}}`,
    "many-labels": changed({ id2label: Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [i, `L${i}`])) }),
  };
}

/** @param {Record<string, unknown>} rslora @returns {Record<string, string>} */
function adapterConfigs(rslora) {
  /** @param {Record<string, unknown>} changes */
  const changed = (changes) => JSON.stringify({ ...rslora, ...changes });
  return {
    "base-is-a-path": changed({ base_model_name_or_path: "../../../etc/passwd" }),
    "rank-2-31": changed({ r: 2 ** 31 }),
    "rank-zero": changed({ r: 0 }),
    "alpha-1e308": changed({ lora_alpha: 1e308 }),
    "pattern-catastrophic": changed({ target_modules: "(a*)*(a*)*(.*.*.*.*.*)*b" }),
    "pattern-repeats": changed({ target_modules: "((((.{1,999}){1,999}){1,999}){1,999})" }),
    "pattern-nested": changed({ target_modules: `${"(".repeat(400)}a${")".repeat(400)}` }),
    "pattern-empty-loops": changed({ target_modules: "(()*)*(|)*" }),
    "patterns-of-objects": `${JSON.stringify(rslora).slice(0, -1)},"rank_pattern":{"__proto__":4,"constructor":8}}`,
    "many-patterns": changed({
      rank_pattern: Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`.*${i}.*`, 4])),
    }),
    "kind-of-objects": changed({ peft_type: "__proto__" }),
    "kind-is-a-path": changed({ peft_type: "../LORA" }),
    "modules-to-save": changed({ modules_to_save: ["../classifier", "__proto__"] }),
    "layers-1e308": changed({ layers_to_transform: [1e308, -1] }),
    "prompt-1e9": JSON.stringify({ peft_type: "PROMPT_TUNING", num_virtual_tokens: 1e9, token_dim: 1e9 }),
    "prefix-1e9": JSON.stringify({ peft_type: "PREFIX_TUNING", num_virtual_tokens: 1e9, encoder_hidden_size: 1e9 }),
    "p-tuning-1e9": JSON.stringify({ peft_type: "P_TUNING", num_virtual_tokens: 1e9, encoder_dropout: 1e308 }),
    "vera-1e9": JSON.stringify({ peft_type: "VERA", r: 1e9, projection_prng_key: 1e308, target_modules: ["query"] }),
    "adalora-1e9": JSON.stringify({ peft_type: "ADALORA", init_r: 1e9, target_r: 1e9, total_step: 1e308 }),
    proto: `{"__proto__":{"r":1},${JSON.stringify(rslora).slice(1)}`,
    "duplicate-keys": `${JSON.stringify(rslora).slice(0, -1)},"r":0}`,
    bom: `\ufeff${JSON.stringify(rslora)}`,
    list: "[]",
    deep: `{"peft_type":"LORA","a":${DEEP}}`,
  };
}

/**
 * @param {Record<string, any>} bert @param {Record<string, any>} gpt2
 * @returns {Record<string, string>}
 */
function tokenizerFiles(bert, gpt2) {
  /** @param {Record<string, unknown>} changes */
  const changed = (changes) => JSON.stringify({ ...gpt2, ...changes });
  const split = (/** @type {string} */ Regex) => ({
    type: "Split",
    pattern: { Regex },
    behavior: "Isolated",
    invert: false,
  });
  const doubling = { type: "Replace", pattern: { String: "e" }, content: "ee" };
  const steps = (/** @type {number} */ n) => Array.from({ length: n }, () => doubling);
  const twice = {
    type: "TemplateProcessing",
    single: Array(2).fill({ Sequence: { id: "A", type_id: 0 } }),
    pair: [],
    special_tokens: {},
  };
  const nested = `${'{"type":"Sequence","normalizers":['.repeat(3000)}${"]}".repeat(3000)}`;
  return {
    "split-exponential": changed({ pre_tokenizer: split("^(?:[a-z ]+)+$") }),
    "split-alternatives": changed({ pre_tokenizer: split("^(?:a|[a-z]|[ -~])*!$") }),
    "replace-exponential": changed({
      normalizer: { type: "Replace", pattern: { Regex: "(.*.*)*\\d{9}" }, content: "" },
    }),
    "doubled-40-times": changed({ normalizer: { type: "Sequence", normalizers: steps(40) } }),
    "doubled-before-splitting": changed({ pre_tokenizer: { type: "Sequence", pretokenizers: steps(40) } }),
    "doubled-in-decoding": changed({ decoder: { type: "Sequence", decoders: [gpt2.decoder, ...steps(40)] } }),
    "joined-40-times": changed({ post_processor: { type: "Sequence", processors: Array(40).fill(twice) } }),
    "nested-steps": changed({ normalizer: "NESTED" }).replace('"NESTED"', nested),
    "fixed-length-zero": changed({ pre_tokenizer: { type: "FixedLength", length: 0 } }),
    "unknown-steps": changed({ normalizer: { type: "constructor" }, decoder: { type: "__proto__" } }),
    "pattern-of-objects": changed({ pre_tokenizer: { type: "Split", pattern: { constructor: "x" } } }),
    "id-2-31": changed({ added_tokens: [{ id: 2 ** 31 - 1, content: "<x>", special: true }] }),
    "id-negative": changed({ added_tokens: [{ id: -1, content: "<x>" }] }),
    "id-of-objects": changed({
      added_tokens: [
        { id: 3, content: "__proto__" },
        { id: 4, content: "constructor" },
      ],
    }),
    "vocabulary-of-objects": JSON.stringify(gpt2).replace(
      '"vocab":{',
      '"vocab":{"__proto__":5,"constructor":6,"toString":7,',
    ),
    "ids-twice": changed({ model: { ...gpt2.model, vocab: { a: 0, b: 0, e: 0 } } }),
    "merge-of-nothing": changed({ model: { ...gpt2.model, merges: ["", " ", "a", "a b c", "e e"] } }),
    "merges-missing": changed({ model: { ...gpt2.model, merges: undefined } }),
    "word-without-end": JSON.stringify({ ...bert, model: { ...bert.model, max_input_chars_per_word: 1e308 } }),
    unigram: JSON.stringify({
      ...bert,
      model: {
        type: "Unigram",
        unk_id: 0,
        vocab: [
          ["<unk>", 0],
          ["\u2581the", -1],
          ["f", -2],
          ["", -3],
          ["the", 1e308],
        ],
      },
    }),
    "unigram-no-unknown": JSON.stringify({ ...bert, model: { type: "Unigram", unk_id: 99, vocab: [["a", 0]] } }),
    proto: `{"__proto__":{"model":1},${JSON.stringify(bert).slice(1)}`,
    "lone-surrogates": changed({
      added_tokens: [
        { id: 3, content: "\ud800" },
        { id: 4, content: "\udc00\ud800" },
      ],
    }),
    bom: `\ufeff${JSON.stringify(bert)}`,
    deep: changed({ decoder: "DEEP" }).replace('"DEEP"', DEEP),
  };
}

/** @returns {Record<string, string>} */
function preprocessors() {
  const vit = {
    do_resize: true,
    size: { height: 4, width: 4 },
    resample: 2,
    image_mean: [0.5, 0.5, 0.5],
    image_std: [0.5, 0.5, 0.5],
  };
  /** @param {Record<string, unknown>} changes */
  const changed = (changes) => JSON.stringify({ ...vit, ...changes });
  return {
    vit: JSON.stringify(vit),
    cropped: changed({ size: { shortest_edge: 6 }, do_center_crop: true, crop_size: 4 }),
    nearest: changed({ resample: 0, size: 4, do_normalize: false, do_rescale: false }),
    "edge-16384": changed({ size: { shortest_edge: 16384 } }),
    "size-16384": changed({ size: 16384, do_center_crop: true, crop_size: 4 }),
    "size-2-31": changed({ size: 2 ** 31 }),
    "crop-larger": changed({ do_center_crop: true, crop_size: 4096 }),
    "deviation-zero": changed({ image_std: [0, 0, 0] }),
    "deviation-1e-320": changed({ image_std: [1e-320, 1e-320, 1e-320] }),
    "rescale-1e308": changed({ rescale_factor: 1e308 }),
    "mean-of-nothing": changed({ image_mean: [] }),
    proto: `{"__proto__":{"size":1},${JSON.stringify(vit).slice(1)}`,
    "class-is-a-path": changed({ image_processor_type: "../Evil", auto_map: {} }),
    list: "[]",
  };
}
