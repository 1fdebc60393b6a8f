import { posix } from "node:path";
import { configOf, configText } from "../../src/cli/config-file";
import { TRAIN } from "../../src/cli/flags";
import { AG_NEWS_CLASSES, readAgNews } from "../../src/data/ag-news";
import { loadChatTemplate } from "../../src/data/chat-template";
import { readE2e } from "../../src/data/e2e";
import { readGlue } from "../../src/data/glue";
import type { GlueTaskName } from "../../src/data/glue-tasks";
import { readConversations } from "../../src/data/jsonl";
import { readImageList } from "../../src/data/image-list";
import { readSamsum } from "../../src/data/samsum";
import { readSquad, squadFeatures } from "../../src/data/squad";
import { readTagged, taggedSamples, tagNames } from "../../src/data/tagged-words";
import { loadTokenizer } from "../../src/data/tokenizer";
import { readTsv } from "../../src/data/tsv";
import { readWordNet } from "../../src/data/wordnet";
import { memoryDirectory } from "../../src/io/directory";
import { readPreferences } from "../../src/preference/read";
import type { Directory } from "../../src/io/directory";
import { JSON_WORDS, must, testFile } from "./reader";
import type { Reader } from "./reader";

const TOKENIZER = testFile("interop-data/tokenizers/bert/tokenizer.json");
const TOKENIZER_CONFIG = testFile("interop-data/tokenizers/bert/tokenizer_config.json");
const bert = await loadTokenizer(memoryDirectory("bert", { "tokenizer.json": TOKENIZER }));
const TEXT = `the film is not boring ${"e".repeat(60)}!`;

async function useTokenizer(directory: Directory): Promise<void> {
  const loaded = await loadTokenizer(directory);
  const { ids, typeIds } = loaded.encode(TEXT, "never", { maxLength: 9 });
  must(typeIds.length === ids.length && ids.length <= 9, "lengths");
  must(
    ids.every((id) => id >= 0 && id < loaded.vocabularySize),
    "ids",
  );
  for (const role of ["pad", "unk", "cls", "sep", "mask", "bos", "eos"] as const) {
    must((loaded.specialId(role) ?? 0) < loaded.vocabularySize, `the id of ${role}`);
  }
  loaded.locate("the film");
  must(typeof loaded.decode(ids) === "string", "a text");
}

const tokenizer: Reader = {
  name: "tokenizer.json",
  seeds: "tokenizer",
  file: "tokenizer.json",
  form: "json",
  perByte: 1024,
  words: [...JSON_WORDS, "\\s+", "(?:", ")*", "Sequence", "Replace", '"type":"'],
  otherFiles: { "tokenizer_config.json": TOKENIZER_CONFIG },
  read: useTokenizer,
};

const sentencePiece: Reader = {
  name: "SentencePiece",
  seeds: "sentencepiece",
  file: "tokenizer.model",
  form: "bytes",
  perByte: 2048,
  words: ["\u2581", "</s>", "\n", "\u0012", "\u001a"],
  otherFiles: { "config.json": new TextEncoder().encode('{"model_type":"llama"}') },
  read: useTokenizer,
};

const CHAT = [
  { role: "user", content: "a" },
  { role: "assistant", content: "b" },
];

const chatTemplate: Reader = {
  name: "chat template",
  seeds: "chat-template",
  file: "chat_template.jinja",
  form: "bytes",
  perByte: 2048,
  words: ["{{ ", " }}", "{% ", " %}", "if", "for", "in", "messages", "set", "|", "loop"],
  async read(directory) {
    const template = await loadChatTemplate(directory);
    const turns = template!.turns(CHAT);
    must(turns.map(({ text }) => text).join("") === template!.render(CHAT), "the same text in turns");
  },
};

const tokenizerConfig: Reader = {
  name: "tokenizer_config.json",
  seeds: "tokenizer-config",
  file: "tokenizer_config.json",
  form: "json",
  words: [...JSON_WORDS, "pad_token", "content", "model_max_length"],
  perByte: 1024,
  otherFiles: { "tokenizer.json": TOKENIZER },
  read: useTokenizer,
};

const LINES = ["\t", "\n", "\r", "\r\n", "\ufeff", "\u0000", "\u2028", "-1", "1e308", "__proto__", "entailment", " "];

const tsv: Reader = {
  name: "TSV",
  seeds: "tsv",
  file: "train.tsv",
  form: "bytes",
  words: LINES,
  perByte: 512,
  async read(directory) {
    const rows = await readTsv(directory, "train.tsv");
    const text = new TextDecoder().decode(await directory.read("train.tsv"));
    must(
      rows.map(({ cells }) => cells.join("\t")).every((line) => text.includes(line)),
      "a line that the file does not have",
    );
    must(
      rows.every(({ line }, i) => line === i + 1),
      "line numbers",
    );
    // The header selects the task, so that seeds of every layout are read as their own task.
    const task = (
      [
        ["score", "stsb"],
        ["sentence1", "rte"],
        ["sentence\t", "sst2"],
      ] as const
    ).find(([word]) => text.includes(word))?.[1];
    const name: GlueTaskName = task ?? "cola";
    const { examples, labelNames } = await readGlue(directory, "train.tsv", name);
    for (const example of examples) {
      must(example.text.trim() !== "", "an empty text");
      if (labelNames) must(labelNames[example.label] !== undefined, `the label ${example.label}`);
      else must(Number.isFinite(example.label) && name === "stsb", `the score ${example.label}`);
    }
  },
};

const csv: Reader = {
  name: "CSV",
  seeds: "csv",
  file: "train.csv",
  form: "bytes",
  perByte: 1024,
  words: ['"', '""', ",", "\n", "\r\n", "mr,ref\n", "name[", "]", "\ufeff", "\u0000", "__proto__", "mr", "ref"],
  async read(directory) {
    for (const { meaning, references } of await readE2e(directory, "train.csv")) {
      must(typeof meaning === "string" && meaning.trim() !== "", "an empty meaning");
      must(
        references.every((text) => typeof text === "string" && text !== ""),
        "a reference without text",
      );
    }
  },
};

const jsonl: Reader = {
  name: "JSONL",
  seeds: "jsonl",
  file: "train.jsonl",
  form: "bytes",
  perByte: 512,
  words: [...JSON_WORDS, "\n", '"messages"', '"assistant"', '"completion":"b"'],
  async read(directory) {
    for (const turns of await readConversations(directory, "train.jsonl")) {
      must(
        turns.some(({ isAnswer, text }) => isAnswer && text.trim() !== ""),
        "a conversation without an answer",
      );
    }
  },
};

const preferences: Reader = {
  name: "preferences",
  seeds: "preferences",
  file: "train.jsonl",
  form: "bytes",
  perByte: 512,
  words: [...JSON_WORDS, "\n", '"prompt"', '"chosen"', '"rejected"', '"assistant"', '[{"role":'],
  async read(directory) {
    for (const { chosen, rejected } of await readPreferences(directory, "train.jsonl")) {
      const answers = [chosen, rejected].map((turns) => turns.filter(({ isAnswer }) => isAnswer));
      must(JSON.stringify(answers[0]) !== JSON.stringify(answers[1]), "answers that are the same");
      for (const turns of answers)
        must(
          turns.some(({ text }) => text.trim() !== ""),
          "an empty answer",
        );
    }
  },
};

/** A reader of words with tags, in columns or in JSON lines. */
const tagged = (name: string, seeds: string, file: string, words: readonly string[]): Reader => ({
  name,
  seeds,
  file,
  form: "bytes",
  perByte: 2048,
  words,
  async read(directory) {
    const tags = await readTagged(directory, file);
    for (const sentence of tags.sentences) {
      must(sentence.words.length === sentence.tags.length && sentence.words.length > 0, "a tag for each word");
      must(sentence.line >= 1, `the line ${sentence.line}`);
    }
    const labelNames = tagNames(tags.sentences) ?? ["O", "B-X"];
    const { samples } = taggedSamples(tags, bert, { labelNames, maxLength: 9, tooLong: "window" });
    must(
      samples.every(({ ids, label }) => ids.length <= 9 && typeof label !== "number" && label.length === ids.length),
      "a label for each token",
    );
  },
});

const conll = tagged("CoNLL", "conll", "train.txt", [...LINES, "-DOCSTART-", "B-", "I-LOC", "# global.columns = "]);
const tags = tagged("tags in JSON lines", "tags", "train.jsonl", [
  ...JSON_WORDS,
  "\n",
  '"tokens":[',
  '"tags":[0]',
  '"B-X"',
]);

const squad: Reader = {
  name: "SQuAD",
  seeds: "squad",
  file: "train.json",
  form: "json",
  perByte: 2048,
  words: [...JSON_WORDS, '"answers":[]', '"answer_start":', '"text":""', "\u{1f600}"],
  async read(directory) {
    const examples = await readSquad(directory, "train.json");
    for (const { context, answers } of examples) {
      must(
        answers.every(({ text, start }) => context.startsWith(text, start)),
        "an answer that is not in the context",
      );
    }
    for (const { sample, spans } of squadFeatures(examples, bert, { maxLength: 24, stride: 12, maxQuestion: 8 })) {
      must(sample.ids.length <= 24 && spans.length === sample.ids.length, "a window's length");
      must(
        // The label of a SQuAD feature is the pair [start, end].
        Array.from(sample.label as Int32Array).every((position) => position >= 0 && position < sample.ids.length),
        "an answer's position",
      );
    }
  },
};

const agNews: Reader = {
  name: "AG News",
  seeds: "ag-news",
  file: "train.csv",
  form: "bytes",
  perByte: 1024,
  words: ['"', '""', ",", "\n", "\r\n", "1,", "4,", "5,", "\ufeff", "\u0000", "__proto__"],
  async read(directory) {
    for (const { text, label } of (await readAgNews(directory, "train.csv")).examples) {
      must(text.trim() !== "", "an empty text");
      must(AG_NEWS_CLASSES[label] !== undefined, `the label ${label}`);
    }
  },
};

const samsum: Reader = {
  name: "SAMSum",
  seeds: "samsum",
  file: "train.json",
  form: "json",
  perByte: 512,
  words: [...JSON_WORDS, '"dialogue":"a"', '"summary":""', '"id":1'],
  async read(directory) {
    for (const { dialogue, summary } of (await readSamsum(directory, "train.json")).examples) {
      must(dialogue.trim() !== "" && summary.trim() !== "", "a blank text");
    }
  },
};

const imageList: Reader = {
  name: "image list",
  seeds: "image-list",
  file: "train.csv",
  form: "bytes",
  perByte: 1024,
  words: ["/", "..", "../", "\\", ",", "\t", "\n", '"', "\u0000", "C:", "__proto__"],
  async read(directory) {
    const text = new TextDecoder().decode(await directory.read("train.csv"));
    const kind = text.includes("\t") ? "annotations" : text.includes(",") ? "csv" : "food";
    for (const { path, name } of await readImageList(directory, "train.csv", kind)) {
      must(name.trim() !== "", "an image without a class");
      must(posix.normalize(`/data/${path}`) === `/data/${path}`, `a path out of the folder: ${path}`);
    }
  },
};

const WORDNET = {
  noun: { index: "car n 1 0 1 0 00000003  \n", data: "  \n00000003 06 n 02 car 0 auto 0 000 | a motor vehicle\n" },
  verb: { index: "be v 1 0 1 0 00000003  \n", data: "  \n00000003 42 v 02 be 0 exist 0 000 | have an existence\n" },
};

const wordNet = (what: "index" | "data"): Reader => {
  const files = ["noun", "verb", "adj", "adv"].flatMap((part) => {
    const { index, data } = part === "noun" ? WORDNET.noun : WORDNET.verb;
    return [
      [`index.${part}`, index],
      [`data.${part}`, data],
    ];
  });
  const file = `${what}.noun`;
  const otherFiles = Object.fromEntries(
    files.filter(([name]) => name !== file).map(([name, text]) => [name!, new TextEncoder().encode(text)]),
  );
  return {
    name: `WordNet's ${what}`,
    seeds: `wordnet-${what}`,
    file,
    form: "bytes",
    perByte: 4096,
    words: [" ", "  ", "\n", "00000003", " 0", "ff", "_", "(", ")", "-1", "1e9", "0x3", "\u0000", "__proto__"],
    otherFiles,
    async read(directory) {
      const wordNet = await readWordNet(directory);
      const words = ["car", "cars", "auto", "__proto__", "constructor", "went", "ing".repeat(500)];
      for (const name of words.flatMap((word) => [...wordNet.synonyms(word)])) {
        must(!name.includes("_") && !name.includes("\n"), `the synonym ${name}`);
      }
      must(wordNet.synonyms("was").has("exist"), "the synonyms of a verb in valid files");
    },
  };
};

const optionsFile: Reader = {
  name: "options",
  seeds: "options",
  file: "run.yaml",
  form: "bytes",
  perByte: 4096,
  words: [": ", "- ", "\n", "\n  ", "[", "]", "{", "}", "*a", "&a", "!!", "|", "? ", "#", "'", '"', "---", "\t", "lr"],
  async read(directory) {
    const { options, check } = configOf(await directory.read("run.yaml"), "run.yaml", {
      name: "train",
      options: TRAIN,
    });
    must(
      Object.keys(options).every((name) => name in TRAIN),
      "a name that is no option",
    );
    check();
    configText(TRAIN, options);
  },
};

export const TEXT_READERS: readonly Reader[] = [
  ...[tokenizer, sentencePiece, tokenizerConfig, chatTemplate, tsv, csv, jsonl, preferences, squad, conll, tags],
  ...[agNews, samsum, imageList, wordNet("index"), wordNet("data"), optionsFile],
];
