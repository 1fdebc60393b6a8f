import { add } from "../ops/add";
import { addBroadcast } from "../ops/add_broadcast";
import { embedding } from "../ops/embedding";
import type { Value } from "../tape/tape";
import { encoderLayers } from "./encoder-layer";
import type { EncoderLayers, LayerModules } from "./encoder-layer";
import type { Forward } from "./forward";
import { answerSpan, tokenClassifier } from "./heads";
import type { FinalNorm, Head } from "./heads";
import { normParameters, projectionParameters } from "./model";
import type { Model, ParameterSpec, Projection, Task } from "./model";

/** Tasks for which encoders of texts have a head. */
export const ENCODER_TASKS: readonly Task[] = ["sequence_classification", "token_classification", "question_answering"];

/** What the heads of an encoder need. */
export interface EncoderHeads {
  readonly task: Task;
  readonly hidden: number;
  /** Dropout before the head for token classification. */
  readonly tokenDropout: number;
  /** What precedes the projection that finds answers. Default nothing. */
  readonly beforeAnswer?: FinalNorm;
  /** The head for sequence classification and regression. */
  readonly classifier: () => Head;
}

/** The head for a task of `ENCODER_TASKS`. */
export function encoderHead(
  config: Readonly<Record<string, unknown>>,
  { task, hidden, tokenDropout, beforeAnswer, classifier }: EncoderHeads,
): Head {
  if (task === "question_answering") return answerSpan(hidden, beforeAnswer);
  if (task === "token_classification") return tokenClassifier(config, { hidden, dropout: tokenDropout });
  return classifier();
}

/** Modules of a layer of BERT. */
export const BERT_MODULES: LayerModules = {
  query: "attention.self.query",
  key: "attention.self.key",
  value: "attention.self.value",
  attentionOutput: "attention.output.dense",
  attentionNorm: "attention.output.LayerNorm",
  feedForwardIn: "intermediate.dense",
  feedForwardOut: "output.dense",
  feedForwardNorm: "output.LayerNorm",
  attention: "attention",
  feedForward: "output",
};

/** An encoder of texts as BERT's: the sum of learned embeddings, normed, then post-norm layers. */
export interface TextEncoder {
  /** The configuration's `model_type`. */
  readonly family: string;
  /** First part of the names of its tensors. */
  readonly prefix: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly head: Head;
  /** Other beginnings of the names of tensors that its files may have: heads of other tasks. */
  readonly otherHeads: readonly string[];
  readonly layers: EncoderLayers;
  readonly vocabulary: number;
  readonly padId: number;
  /** Rows of the table of positions, and how they count: 0, 1, 2, ..., or as `Forward.paddedPositions`. Default no table. */
  readonly positions?: { readonly rows: number; readonly kind: "absolute" | "padded" } | undefined;
  /** Number of token types; 0 for none. */
  readonly tokenTypes: number;
  /** Dropout of the embeddings. */
  readonly dropout: number;
  /** Embeddings of another width than the layers, and the module that projects them. Default none. */
  readonly projected?: { readonly module: string; readonly width: number } | undefined;
  readonly defaultTargets: readonly string[];
  /** Further tensors. Default none. */
  readonly parameters?: readonly ParameterSpec[];
  /** See `Model`. */
  readonly constants?: Model["constants"];
}

/** The model of an encoder of texts. */
export function textEncoder(encoder: TextEncoder): Model {
  const { family, prefix, config, head, positions, padId, projected, constants } = encoder;
  const layers = encoderLayers(encoder.layers);
  const projection: readonly Projection[] = projected
    ? [
        {
          name: `${prefix}.${projected.module}`,
          in: projected.width,
          out: encoder.layers.hidden,
          layout: "out_in",
          bias: true,
          layer: "below",
          role: undefined,
        },
      ]
    : [];
  const projections = [...projection, ...layers.projections, ...head.projections];
  const isOther = new RegExp(`^(?:${["classifier", "qa_outputs", ...encoder.otherHeads].join("|")})\\.`);
  return {
    ...layers.model,
    family,
    config,
    projections,
    task: head.task,
    classes: head.classes,
    heads: head.heads,
    parameters: [
      ...embeddingParameters(encoder),
      ...projections.flatMap((each) => projectionParameters(each)),
      ...layers.parameters,
      ...(encoder.parameters ?? []),
    ],
    vocabularySize: encoder.vocabulary,
    // Positions that skip padding begin after that of padding.
    maxLength: positions ? positions.rows - (positions.kind === "padded" ? padId + 1 : 0) : Infinity,
    padId,
    wordEmbeddings: `${prefix}.embeddings.word_embeddings.weight`,
    defaultTargets: encoder.defaultTargets,
    aliases: (name) => aliases(prefix, name),
    ignores: (name) => isOther.test(name) || /position_ids$|(?:^|\.)pooler\./.test(name),
    ...(constants && { constants }),
    embed: (forward) => embed(forward, encoder),
    head: (forward, x) => head.apply(forward, x),
  };
}

function embed(forward: Forward, { prefix, positions, tokenTypes, layers, dropout, projected }: TextEncoder): Value {
  const { recorder } = forward;
  const table = (name: string): Value => forward.parameter(`${prefix}.embeddings.${name}_embeddings.weight`);
  const embeddings = recorder.labelled(`${prefix}.embeddings`, () => {
    const words = forward.tokenEmbeddings(table("word"));
    const typesOf = (a: Value): Value => {
      const b = recorder.apply(embedding, { table: table("token_type"), ids: forward.tokenTypeIds }, {});
      return recorder.apply(add, { a, b }, {});
    };
    const typed = tokenTypes > 0 ? typesOf(words) : words;
    const placed = (a: Value): Value => {
      const isAbsolute = positions?.kind === "absolute";
      const ids = isAbsolute ? forward.positions : forward.paddedPositions;
      const b = recorder.apply(embedding, { table: table("position"), ids }, {});
      return recorder.apply(isAbsolute ? addBroadcast : add, { a, b }, {});
    };
    const sum = positions ? placed(typed) : typed;
    return forward.dropout(forward.layerNorm(`${prefix}.embeddings.LayerNorm`, sum, layers.eps), dropout);
  });
  return projected ? forward.linear(`${prefix}.${projected.module}`, embeddings) : embeddings;
}

function embeddingParameters(encoder: TextEncoder): ParameterSpec[] {
  const { prefix, tokenTypes, positions, layers, projected } = encoder;
  const width = projected?.width ?? layers.hidden;
  const table = (name: string, rows: number): ParameterSpec => {
    return { name: `${prefix}.embeddings.${name}_embeddings.weight`, shape: [rows, width], layer: "below" };
  };
  return [
    table("word", encoder.vocabulary),
    ...(positions ? [table("position", positions.rows)] : []),
    ...(tokenTypes > 0 ? [table("token_type", tokenTypes)] : []),
    ...normParameters(`${prefix}.embeddings.LayerNorm`, width, "below"),
  ];
}

/** Names of a tensor in published files: old ones say gamma and beta in norms, and bare models have no prefix. */
function aliases(prefix: string, name: string): string[] {
  const old = name.replace(/LayerNorm\.weight$/, "LayerNorm.gamma").replace(/LayerNorm\.bias$/, "LayerNorm.beta");
  const bare = (full: string): string => (full.startsWith(`${prefix}.`) ? full.slice(prefix.length + 1) : full);
  return [...new Set([name, old, bare(name), bare(old)])];
}
