import type { Head } from "./heads";
import { projectionParameters } from "./model";
import type { Model, ParameterSpec, Projection, ProjectionRole, TensorPlace } from "./model";

/** What a family says of its model. The rest of `Model` follows from it, and each member of it may be given as well. */
export interface ModelParts
  extends
    Pick<Model, "family" | "config" | "layers" | "hiddenSize" | "vocabularySize" | "embed" | "layer">,
    Partial<
      Omit<
        Model,
        | "family"
        | "config"
        | "layers"
        | "hiddenSize"
        | "vocabularySize"
        | "embed"
        | "layer"
        // The head gives these.
        | "task"
        | "classes"
        | "heads"
        | "head"
        | "output"
        | "tiedOutput"
        // These are below.
        | "projections"
        | "parameters"
      >
    > {
  /** The task's head, which brings its own projections. */
  readonly head: Head;
  /** Projections below and within the layers; each brings its weight and bias. */
  readonly projections: readonly Projection[];
  /** All other tensors: tables of embeddings, norms. */
  readonly parameters: readonly ParameterSpec[];
}

/**
 * The model of its parts. Defaults: texts of any length, padding with token 0, no dropout, tensors under their own names, no tensor that a
 * checkpoint has in addition, nothing to prune, and adapters on the projections of queries and values.
 */
export function modelOf({ head, ...parts }: ModelParts): Model {
  const projections = [...parts.projections, ...head.projections];
  return {
    maxLength: Infinity,
    padId: 0,
    activation: "gelu",
    hiddenDropout: 0,
    defaultTargets: modulesOf(parts.projections, ["query", "value", "query_key_value"]),
    aliases: (name) => [name],
    ignores: () => false,
    structures: () => [],
    ...parts,
    task: head.task,
    classes: head.classes,
    heads: head.heads,
    head: (forward, x) => head.apply(forward, x),
    output: head.output,
    tiedOutput: head.tiedOutput,
    projections,
    parameters: [...parts.parameters, ...projections.flatMap((projection) => projectionParameters(projection))],
  };
}

/** Ends of the names of projections of some roles, without repetition. */
function modulesOf(projections: readonly Projection[], roles: readonly ProjectionRole[]): string[] {
  const chosen = projections.filter(({ role }) => role !== undefined && roles.includes(role));
  return [...new Set(chosen.map(({ name }) => name.slice(name.lastIndexOf(".") + 1)))];
}

/** A projection from `from` features to `to`. Default: with a bias, its weight [to, from] as in torch.nn.Linear, outside the layers. */
export function projection(
  name: string,
  from: number,
  to: number,
  {
    bias = true,
    layer,
    role,
  }: { readonly bias?: boolean; readonly layer?: TensorPlace; readonly role?: ProjectionRole } = {},
): Projection {
  return { name, in: from, out: to, layout: "out_in", bias, layer, role };
}
