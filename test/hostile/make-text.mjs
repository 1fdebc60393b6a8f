// @ts-check
// Seeds of the readers of texts.
import { sentencePieceModel } from "../support/sentencepiece.mjs";

const deep = (/** @type {number} */ n) => `${"[".repeat(n)}${"]".repeat(n)}`;

const STSB = "index genre filename year old_index source1 source2 sentence1 sentence2 score".replaceAll(" ", "\t");

/** @returns {Record<string, Record<string, string | Uint8Array>>} */
export function textSeeds() {
  return {
    tsv: tsv(),
    csv: csv(),
    jsonl: jsonl(),
    preferences: preferences(),
    squad: squad(),
    conll: conll(),
    tags: tags(),
    "ag-news": agNews(),
    samsum: samsum(),
    "image-list": imageList(),
    "wordnet-index": wordnetIndex(),
    "wordnet-data": wordnetData(),
    "chat-template": chatTemplates(),
    sentencepiece: sentencePiece(),
    options: options(),
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function options() {
  const yaml = "# a run\nmodel: dir\ntask: sst2\nlr: 1e-4\nmax_length: 12\ntargets: [query, value]\n";
  return {
    yaml: `${yaml}freeze: {policy: upper_layers, count: 2}\nquiet: true\nplugin:\n  - a.mjs\n  - b.mjs\nchat-template: none\n`,
    json: '{\n\t"model": "dir",\n\t"lr": 0.001,\n\t"targets": ["query"]\n}\n',
    crlf: yaml.replaceAll("\n", "\r\n"),
    "unknown-key": "modle: dir\n",
    twice: "lr: 1\nlr: 2\n",
    "twice-in-other-words": "max-length: 1\nmaxLength: 2\n",
    "no-value": "lr:\n",
    list: "- lr\n",
    aliases: `a: &a [x]\nb: &b [${"*a,".repeat(200)}]\nlr: *b\n`,
    tag: "lr: !!js/function x\n",
    prototype: "__proto__: {lr: 1}\nconstructor: 1\n",
    "two-documents": "lr: 1\n---\nlr: 2\n",
    brackets: deep(4000),
    dashes: "- ".repeat(4000),
    "deep-freeze": `freeze: ${'{"policy": '.repeat(300)}1${"}".repeat(300)}`,
    long: `# ${"x".repeat(70_000)}\n`,
    empty: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function chatTemplates() {
  const chat = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}\n{% endfor %}";
  return {
    chat: `${chat}{% if add_generation_prompt %}<|assistant|>{% endif %}`,
    marked: "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    raising: `{{ raise_exception("no") }}${chat}`,
    crlf: chat.replaceAll("\n", "\r\n"),
    open: "{% for m in messages %}",
    "type-of-objects":
      "{{ messages.__proto__.x }}{{ messages.constructor }}{{ constructor.constructor('return 1')() }}",
    deep: "{% if true %}".repeat(500),
    brackets: `{{ ${"[".repeat(2000)}${"]".repeat(2000)} }}`,
    macro: "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    empty: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function sentencePiece() {
  const pieces = [
    { text: "<unk>", kind: 2 },
    { text: "<s>", kind: 3 },
    { text: "</s>", kind: 3 },
    ...["\u2581", "t", "h", "e", "\u2581t", "\u2581th", "\u2581the"].map((text, i) => ({ text, score: -i })),
  ];
  const unigram = sentencePieceModel(pieces);
  return {
    unigram,
    bpe: sentencePieceModel(pieces, { algorithm: 2, byteFallback: true }),
    "same-pieces": sentencePieceModel([...pieces, ...pieces]),
    "huge-score": sentencePieceModel(pieces.map((piece) => ({ ...piece, score: Infinity }))),
    "table-of-nothing": sentencePieceModel(pieces, { replacements: new Uint8Array(4) }),
    "table-beyond-the-end": sentencePieceModel(pieces, { replacements: new Uint8Array(8).fill(255) }),
    "cut-off": unigram.slice(0, 20),
    "length-beyond-the-end": Uint8Array.of(0x0a, 0xff, 0xff, 0xff, 0x7f),
    "number-without-end": new Uint8Array(20).fill(0xff),
    "group-of-fields": Uint8Array.of(0x0b, 0x0c),
    empty: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function conll() {
  const rows = "-DOCSTART- -X- O\n\nEU NNP B-ORG\n# SYM O\n\nPeter NNP I-PER\n";
  return {
    rows,
    crlf: rows.replaceAll("\n", "\r\n"),
    bom: `\ufeff${rows}`,
    tabs: rows.replaceAll(" ", "\t"),
    columns: "# global.columns = ID FORM NER\n# x\n1\tnew york\tB-LOC\n2\tis\tO\n",
    "columns-without-form": "# global.columns = NER\nO\n",
    "columns-of-objects": "# global.columns = __proto__ constructor\na\tO\n",
    "tag-missing": "EU NNP B-ORG\nPeter NNP\n",
    "type-of-objects": "a B-__proto__\nb I-constructor\n",
    "place-unknown": "a X-LOC\n",
    "word-alone": "a\n",
    blank: " \n\t\n",
    nul: "a\u0000 O\n",
    "not-utf8": Uint8Array.from([...Buffer.from(rows), 0xff]),
    "many-columns": `a ${"b ".repeat(20000)}O\n`,
    "long-type": `a B-${"x".repeat(20000)}\n`,
    nothing: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function tags() {
  const names = '{"tokens":["EU","#"],"ner_tags":["B-ORG","O"]}';
  return {
    forms: `${names}\n\n{"id":"1","tokens":["a"],"tags":[3]}\n`,
    crlf: `${names}\r\n${names}\r\n`,
    bom: `\ufeff${names}\n`,
    "lengths-differ": '{"tokens":["a"],"tags":[0,1]}\n',
    "no-tokens": '{"tokens":[],"tags":[]}\n',
    "empty-token": '{"tokens":[""],"tags":["O"]}\n',
    "tags-negative": '{"tokens":["a"],"tags":[-1]}\n',
    "tags-1e308": '{"tokens":["a"],"tags":[1e308]}\n',
    "tags-mixed": '{"tokens":["a","b"],"tags":[0,"O"]}\n',
    "tag-unknown": '{"tokens":["a"],"tags":["LOC"]}\n',
    proto: '{"__proto__":{"tokens":["a"],"tags":["O"]}}\n',
    "length-lies": '{"tokens":{"length":1000000000},"tags":{"length":1000000000}}\n',
    "lone-surrogate": '{"tokens":["\\ud800"],"tags":["O"]}\n',
    deep: `{"tokens":${deep(20000)},"tags":["O"]}\n`,
    "not-utf8": Uint8Array.from([...Buffer.from(names), 0x0a, 0xf5, 0x0a]),
    list: "[]\n",
    nothing: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function agNews() {
  const rows = '"3","Oil, and ""gas""","Prices\\rise."\n4,Chips,Faster\n';
  return {
    rows,
    crlf: rows.replaceAll("\n", "\r\n"),
    bom: `\ufeff${rows}`,
    "class-0": "0,a,b\n",
    "class-1e308": "1e308,a,b\n",
    "class-of-objects": "__proto__,constructor,toString\n",
    "two-cells": "text,label\na,1\n",
    "open-quote": '1,"a,b\nc,d,e\n',
    blank: "1,, \n",
    nul: "1,a\u0000,b\n",
    "not-utf8": Uint8Array.from([...Buffer.from(rows), 0xff]),
    "many-quotes": `1,a,${'"'.repeat(20001)}\n`,
    nothing: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function samsum() {
  const item = { id: "13818513", dialogue: "Ann: Tea?\r\nBob: Yes", summary: "Bob wants tea." };
  /** @param {Record<string, unknown>[]} changes */
  const file = (...changes) => JSON.stringify(changes.map((change) => ({ ...item, ...change })));
  return {
    two: file({}, { id: "2" }),
    "blank-dialogue": file({ dialogue: " " }, {}),
    "blank-items": file({ summary: "" }),
    "summary-missing": '[{"id":"1","dialogue":"a"}]',
    "id-of-numbers": file({ id: 1 }),
    "summary-of-objects": file({ summary: { length: 1e9 } }),
    proto: '[{"__proto__":{"id":"1","dialogue":"a","summary":"b"}}]',
    "lone-surrogates": '[{"id":"1","dialogue":"\\ud800","summary":"\\udfff"}]',
    "json-lines": `${JSON.stringify(item)}\n${JSON.stringify(item)}\n`,
    "length-lies": '{"length":1000000000}',
    deep: deep(20000),
    bom: `\ufeff${file({})}`,
    list: "[]",
    nothing: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function imageList() {
  return {
    csv: 'jpg/1.jpg,rose\n"a,b.jpg","lily, white"\n',
    annotations: "val_0.JPEG\tn0344\t0\t32\t44\t62\n",
    food: "apple_pie/100\nwaffles/7\n",
    crlf: "a.png,x\r\nb.png,y\r\n",
    parent: "../../etc/a.png,x\n",
    "parent-inside": "a/../../b.png,x\n",
    absolute: "/etc/a.png,x\n",
    drive: "C:\\a.png,x\n",
    stream: "a.png:b,x\n",
    nul: "a.png\u0000,x\n",
    "class-of-objects": "a.png,__proto__\nb.png,constructor\n",
    "class-missing": "a.png,\n",
    "many-slashes": `${"a/".repeat(4000)}b.png,x\n`,
    "not-utf8": Uint8Array.of(0x61, 0xff, 0x2c, 0x78, 0x0a),
    nothing: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function wordnetIndex() {
  return {
    two: "  1 the licence\ncar n 1 1 @ 1 1 00000003  \nauto n 1 0 1 0 00000003  \n",
    "offset-inside": "car n 1 0 1 0 00000005  \n",
    "offset-beyond": "car n 1 0 1 0 99999999  \n",
    "offset-2-53": "car n 1 0 1 0 9007199254740993  \n",
    "offset-negative": "car n 1 0 1 0 -3  \n",
    "offset-hexadecimal": "car n 1 0 1 0 0x3  \n",
    "count-lies": "car n 1000000000 0 1 0 00000003  \n",
    "count-missing": "car\n",
    "word-of-objects": "__proto__ n 1 0 1 0 00000003  \nconstructor n 1 0 1 0 00000003  \n",
    "many-offsets": `car n 2000 0 1 0 ${"00000003 ".repeat(2000)}\n`,
    "licence-only": "  1 the licence\n",
    "not-utf8": Uint8Array.from([0xff, ...Buffer.from(" n 1 0 1 0 00000003\n")]),
    nothing: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function wordnetData() {
  const synset = "00000003 06 n 03 car 0 auto 0 motor_car 0 000 | a motor vehicle";
  return {
    synset: `  \n${synset}  \n`,
    marked: "  \n00000003 00 s 02 galore(ip) 0 car(a) 0 000 | in abundance\n",
    "without-end": `  \n${synset}`,
    "count-lies": "  \n00000003 06 n ff car 0\n",
    "count-zero": "  \n00000003 06 n 00 000 | nothing\n",
    "count-negative": "  \n00000003 06 n -1 car 0 000\n",
    "another-offset": "  \n00000004 06 n 01 car 0 000\n",
    shifted: ` \n${synset}\n`,
    "many-brackets": `  \n00000003 06 n 01 ${"(".repeat(5000)} 0 000\n`,
    "many-words": `  \n00000003 06 n ffff ${"a 0 ".repeat(2000)}\n`,
    "not-utf8": Uint8Array.from([...Buffer.from("  \n00000003 06 n 01 "), 0xff, ...Buffer.from(" 0 000\n")]),
    nothing: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function tsv() {
  const rte = [
    "index\tsentence1\tsentence2\tlabel",
    "0\tone.\ttwo.\tentailment",
    "1\tThree?\tfour\tnot_entailment",
    "",
  ];
  const sst = "sentence\tlabel\nnot boring\t1\nboring \t0\n";
  return {
    rte: rte.join("\n"),
    crlf: rte.join("\r\n"),
    sst2: sst,
    cola: "gj04\t1\t\tOur friends won't buy this.\nks08\t0\t*\tThis are wrong.\n",
    stsb: `${STSB}\n0\ta\tb\tc\td\te\tf\tA plane.\tAn air plane.\t5.000\n`,
    "score-nan": `${STSB}\n0\ta\tb\tc\td\te\tf\tA.\tB.\tNaN\n`,
    bom: `\ufeff${sst}`,
    "utf-16": new Uint8Array(Buffer.from(`\ufeff${sst}`, "utf16le")),
    nul: sst.replace("boring", "bo\u0000ring"),
    "not-utf8": Uint8Array.from([...Buffer.from(sst), 0xc3, 0x28, 0x0a]),
    "surrogate-as-utf8": Uint8Array.from([...Buffer.from(sst), 0xed, 0xa0, 0x80, 0x09, 0x31]),
    "no-header": "not boring\t1\n",
    "header-only": "sentence\tlabel\n",
    quotes: 'sentence\tlabel\n"not\tboring"\t1\n',
    "label-of-objects": "sentence\tlabel\ngood\t__proto__\nbad\tconstructor\n",
    "label-1e308": "sentence\tlabel\ngood\t1e308\n",
    "label-hexadecimal": "sentence\tlabel\ngood\t0x1\n",
    "many-columns": `sentence\tlabel\n${"\t".repeat(20000)}\n`,
    "many-lines": `sentence\tlabel\n${"\n".repeat(20000)}`,
    "line-separators": "sentence\tlabel\nnot\u2028boring\u0085\t1\n",
    nothing: "",
    blank: "\n\n \n",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function csv() {
  const rows =
    'mr,ref\n"name[The Eagle], food[French]",The Eagle is French.\n"name[The Eagle], food[French]","Eat, at The Eagle."\n';
  return {
    e2e: rows,
    crlf: rows.replaceAll("\n", "\r\n"),
    "test-set": 'mr\n"name[Alimentum], area[city centre]"\n',
    "quoted-line-end": 'mr,ref\n"name[A]","Two\nlines, one ""cell""."\n',
    "open-quote": 'mr,ref\n"name[A],text\nmore\n',
    "quote-inside": 'mr,ref\nna"me[A],te"xt\n',
    "header-of-objects": "mr,ref,__proto__,constructor\na,b,c,d\n",
    "header-twice": "mr,ref,mr,ref,mr_1\na,b,c,d,e\n",
    "too-few-cells": "mr,ref\na\n",
    "too-many-cells": "mr,ref\na,b,c,d\n",
    "parsed-extra": "mr,ref,__parsed_extra\na,b,c,d,e\n",
    bom: `\ufeff${rows}`,
    nul: "mr,ref\na\u0000,b\n",
    "not-utf8": Uint8Array.from([...Buffer.from(rows), 0xff]),
    formula: 'mr,ref\n"=cmd|calc",@SUM(A1)\n',
    "many-quotes": `mr,ref\n${'"'.repeat(20001)}\n`,
    "many-commas": `mr,ref\n${",".repeat(20000)}\n`,
    "header-only": "mr,ref\n",
    nothing: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function preferences() {
  const texts = '{"prompt":"2 + 2 is","chosen":" 4","rejected":" 5"}';
  const [user, four, five] = [
    '{"role":"user","content":"2 + 2?"}',
    '{"role":"assistant","content":"4"}',
    '{"role":"assistant","content":"5"}',
  ];
  return {
    forms: `${texts}\n{"chosen":"a b","rejected":"a c"}\n\n{"prompt":[${user}],"chosen":[${four}],"rejected":[${five}]}\n`,
    implicit: `{"chosen":[${user},${four}],"rejected":[${user},${five}]}\r\n`,
    "text-beside-messages": `{"prompt":"2 + 2?","chosen":[${user},${four}],"rejected":[${user},${five}]}\n`,
    "prompt-twice": `{"prompt":[${user}],"chosen":[${user},${four}],"rejected":[${user},${five}]}\n`,
    same: '{"prompt":"a","chosen":"b","rejected":"b"}\n',
    "no-prompt": '{"chosen":"a","rejected":"b"}\n',
    "half-a-character": '{"chosen":"a\\ud83d\\ude00","rejected":"a\\ud83d\\ude01"}\n',
    proto: '{"__proto__":{"prompt":"a","chosen":"b","rejected":"c"}}\n',
    "messages-of-anything": '{"prompt":[1,null],"chosen":[[]],"rejected":[{"role":"__proto__"}]}\n',
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function jsonl() {
  const chat = '{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello."}]}';
  return {
    forms: `${chat}\n{"instruction":"Add","input":"1 2","output":"3"}\n\n{"prompt":"a","completion":"b"}\n`,
    crlf: `${chat}\r\n${chat}\r\n`,
    bom: `\ufeff${chat}\n`,
    "pretty-printed": '{\n"prompt":"a",\n"completion":"b"}\n',
    "role-of-objects": '{"messages":[{"role":"__proto__","content":"x"}]}\n',
    "role-of-tools": '{"messages":[{"role":"tool","content":"x"}]}\n',
    "no-answer": '{"prompt":"a","completion":" "}\n',
    proto: '{"__proto__":{"prompt":"a","completion":"b"}}\n',
    "proto-inside": '{"prompt":"a","completion":"b","__proto__":{"polluted":1}}\n',
    "duplicate-keys": '{"prompt":"a","completion":"b","prompt":1}\n',
    "lone-surrogate": '{"prompt":"\\ud800","completion":"\\udfff"}\n',
    nul: '{"prompt":"a\\u0000","completion":"b"}\n',
    numbers: '{"prompt":1e999,"completion":2}\n',
    "length-lies": '{"messages":{"length":1000000000}}\n',
    deep: `{"prompt":${deep(20000)},"completion":"b"}\n`,
    "many-messages": `{"messages":[${Array(2000).fill('{"role":"assistant","content":"x"}').join(",")}]}\n`,
    "separators-inside": '{"prompt":"a\u2028b","completion":"c\u0085"}\n',
    "not-utf8": Uint8Array.from([...Buffer.from(chat), 0x0a, 0xf5, 0x0a]),
    list: "[]\n",
    nothing: "",
  };
}

/** @returns {Record<string, string | Uint8Array>} */
function squad() {
  const answer = { text: "film", answer_start: 4 };
  /** @param {Record<string, unknown>} change @param {string} [context] */
  const file = (change, context = "the film is not boring") =>
    JSON.stringify({
      version: "1.1",
      data: [
        { title: "t", paragraphs: [{ context, qas: [{ id: "q1", question: "what?", answers: [answer], ...change }] }] },
      ],
    });
  return {
    one: file({}),
    "two-answers": file({ answers: [answer, { text: "not boring", answer_start: 12 }] }),
    astral: file({ answers: [{ text: "film", answer_start: 2 }] }, "\u{1f600} film"),
    unanswerable: file({ answers: [], is_impossible: true }),
    elsewhere: file({ answers: [{ text: "film", answer_start: 5 }] }),
    "start-negative": file({ answers: [{ text: "film", answer_start: -1 }] }),
    "start-1e308": file({ answers: [{ text: "film", answer_start: 1e308 }] }),
    "start-2-53": file({ answers: [{ text: "", answer_start: 2 ** 53 - 1 }] }),
    "empty-answer": file({ answers: [{ text: "", answer_start: 22 }] }),
    "empty-context": file({ answers: [{ text: "", answer_start: 0 }] }, ""),
    "long-question": file({ question: "what ".repeat(2000) }),
    "long-context": file({}, `the film ${"is ".repeat(3000)}`),
    "id-of-objects": file({ id: "__proto__" }),
    "lone-surrogates": file({ question: "\ud800" }, "the film \udc00\ud800"),
    proto: `{"__proto__":{"data":[]},${file({}).slice(1)}`,
    "proto-as-data": '{"data":[{"paragraphs":[{"__proto__":{"context":"a"},"qas":[]}]}]}',
    "nothing-inside": '{"data":[]}',
    "length-lies": '{"data":{"length":1000000000}}',
    deep: `{"data":${deep(20000)}}`,
    bom: `\ufeff${file({})}`,
    list: "[]",
  };
}
