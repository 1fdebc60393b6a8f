/** An operator of a graph, with attributes that are numbers: whole ones are integers unless they are named in `floats`. */
export interface OnnxNode {
  readonly operator: string;
  readonly inputs: readonly string[];
  readonly output: string;
  readonly integers?: Readonly<Record<string, number>>;
  readonly floats?: Readonly<Record<string, number>>;
  /** Of the operators that are not ONNX's own. */
  readonly domain?: string;
}

/** Shapes of f32 tensors by name. */
export type OnnxShapes = Readonly<Record<string, readonly number[]>>;

/** Versions of the format, of ONNX's operators and of those of `com.microsoft`. */
const [FORMAT, OPERATORS, CONTRIBUTED] = [9, 17, 1];

/** Values of `TensorProto.DataType` and `AttributeProto.AttributeType`. */
const [FLOAT_TENSOR, FLOAT_ATTRIBUTE, INTEGER_ATTRIBUTE] = [1, 1, 2];

/** An ONNX file of a graph, whose fields have the numbers of onnx.proto3, in the wire format of protocol buffers. */
export function onnxModel(nodes: readonly OnnxNode[], inputs: OnnxShapes, outputs: OnnxShapes): Uint8Array {
  const graph = [
    ...nodes.flatMap((node) => message(1, nodeFields(node))),
    ...text(2, "graph"),
    ...valueFields(11, inputs),
    ...valueFields(12, outputs),
  ];
  const operators = message(8, whole(2, OPERATORS));
  const contributed = message(8, [...text(1, "com.microsoft"), ...whole(2, CONTRIBUTED)]);
  return Uint8Array.from([...whole(1, FORMAT), ...message(7, graph), ...operators, ...contributed]);
}

function nodeFields({ operator, inputs, output, integers = {}, floats = {}, domain }: OnnxNode): number[] {
  const attribute = (name: string, value: readonly number[], type: number): number[] =>
    message(5, [...text(1, name), ...value, ...whole(20, type)]);
  return [
    ...inputs.flatMap((name) => text(1, name)),
    ...text(2, output),
    ...text(4, operator),
    ...Object.entries(floats).flatMap(([name, value]) => attribute(name, float(2, value), FLOAT_ATTRIBUTE)),
    ...Object.entries(integers).flatMap(([name, value]) => attribute(name, whole(3, value), INTEGER_ATTRIBUTE)),
    ...(domain === undefined ? [] : text(7, domain)),
  ];
}

function valueFields(field: number, shapes: OnnxShapes): number[] {
  return Object.entries(shapes).flatMap(([name, shape]) => {
    const dimensions = shape.flatMap((size) => message(1, whole(1, size)));
    const tensor = [...whole(1, FLOAT_TENSOR), ...message(2, dimensions)];
    return message(field, [...text(1, name), ...message(2, message(1, tensor))]);
  });
}

/** Wire types: a whole number in groups of 7 bits, bytes behind their number, four bytes. */
const [VARIABLE, BYTES, FOUR_BYTES] = [0, 2, 5];

function variable(value: number): number[] {
  const groups: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 128) return [...groups, rest];
    groups.push((rest & 127) | 128);
  }
}

const key = (field: number, type: number): number[] => variable((field << 3) | type);
const whole = (field: number, value: number): number[] => [...key(field, VARIABLE), ...variable(value)];
const message = (field: number, bytes: readonly number[]): number[] => [
  ...key(field, BYTES),
  ...variable(bytes.length),
  ...bytes,
];
const text = (field: number, value: string): number[] => message(field, [...Buffer.from(value)]);
const float = (field: number, value: number): number[] => [
  ...key(field, FOUR_BYTES),
  ...new Uint8Array(Float32Array.of(value).buffer),
];
