import { isMap, isScalar, isSeq, LineCounter, parseDocument, visit } from "yaml";
import type { Document, Node } from "yaml";
import { decodeText, oneLine } from "../io/json";
import { UsageError } from "./options";

/** Bytes of a file at most: no file of options or study is as long, and a parser of YAML takes long for some that are. */
const MOST_BYTES = 1 << 16;

/** Keys of mappings and positions in lists, from the top of a file. */
export type Place = readonly (string | number)[];

/** A file in YAML, or in JSON, which is YAML too. */
export interface YamlFile {
  /** Null for an empty file. */
  readonly contents: Node | null;
  /** Line of a node, from 1. */
  readonly lineOf: (node: Node) => number;
  /** File and line of what is at a place, or of the nearest that holds it: "study.json:7". */
  readonly where: (place: Place) => string;
}

/** What a file is, for errors. */
export interface YamlKind {
  /** As in "a file of options". */
  readonly noun: string;
  readonly syntax: string;
}

/**
 * Parses a file. @param path its path in errors.
 * @throws UsageError with file and line for what is not YAML, for aliases, and for a file that is too long or nested too deeply.
 */
export function parseYaml(bytes: Uint8Array, path: string, { noun, syntax }: YamlKind): YamlFile {
  if (bytes.length > MOST_BYTES) {
    throw new UsageError(`${path} has more than ${MOST_BYTES} bytes.`, `Give ${noun}.`);
  }
  const lines = new LineCounter();
  const document = documentOf(decodeText(bytes, path), path, lines, noun);
  const lineOf = (node: Node): number => lines.linePos(node.range?.[0] ?? 0).line;
  const [fault] = [...document.errors, ...document.warnings];
  if (fault) {
    const { line } = lines.linePos(fault.pos[0]);
    throw new UsageError(`${path}:${line}: ${oneLine(fault.message)}.`, syntax);
  }
  visit(document, {
    Alias(_, alias) {
      throw new UsageError(`${path}:${lineOf(alias)}: *${oneLine(alias.source)} is an alias.`, "Write its value.");
    },
  });
  const { contents } = document;
  return { contents, lineOf, where: (place) => `${path}:${contents ? lineAt(contents, place, lineOf) : 1}` };
}

/** The line of what is at a place: of a key where a mapping has it. */
function lineAt(top: Node, place: Place, lineOf: YamlFile["lineOf"]): number {
  let [node, line]: [unknown, number] = [top, lineOf(top)];
  for (const step of place) {
    if (isSeq<Node>(node)) {
      const item = node.items[Number(step)];
      if (!item) break;
      [node, line] = [item, lineOf(item)];
    } else if (isMap<Node, Node | null>(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
      if (!pair) break;
      [node, line] = [pair.value, lineOf(pair.key)];
    } else break;
  }
  return line;
}

/** @throws UsageError for a text so deeply nested that the parser, which calls itself, does not come to its end. */
function documentOf(text: string, path: string, lineCounter: LineCounter, noun: string): Document.Parsed {
  try {
    // The library's own messages quote the line, however long it is.
    return parseDocument(text, { lineCounter, prettyErrors: false });
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new UsageError(`${path} is nested too deeply.`, `Give ${noun}.`, { cause });
  }
}
