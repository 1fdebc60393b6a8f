/** A basic block of machine code. Counts are of one run of the block by one lane. */
export interface Block {
  readonly name: string;
  /** Multiply-adds of 32 or 16 bits; a packed instruction has two. */
  readonly fma: number;
  /** Vector instructions. The two halves of a dual instruction count as two. */
  readonly valu: number;
  /** Bytes read from workgroup memory. */
  readonly ldsBytes: number;
  /** Bytes of each access of global memory. Scalar loads, which a wave makes once for all lanes, are left out. */
  readonly reads: readonly number[];
  readonly writes: readonly number[];
  /** Accesses of spilled registers and of arrays that did not fit into registers. */
  readonly scratch: number;
  readonly isInLoop: boolean;
  /** Whether a loop has it that contains no other loop. */
  readonly isInnermost: boolean;
}

/** What a driver's compiler made of one entry. */
export interface MachineCode {
  /** Vector registers of a lane. */
  readonly registers: number;
  /** Vector registers that were moved to memory. */
  readonly spilled: number;
  /** Bytes of memory of a lane for spilled registers and for arrays with indices that are not constant. */
  readonly scratchBytes: number;
  /** Waves that a SIMD can hold, and switch between while some wait. */
  readonly waves: number;
  readonly ldsBytes: number;
  readonly instructions: number;
  /** The compiler's own estimate of cycles; comparable between variants of one shape only. */
  readonly inverseThroughput: number;
  /** Empty where the disassembler does not know the family. */
  readonly blocks: readonly Block[];
}

/** Reads what RADV prints of a compute pipeline (RADV_DEBUG=asm,shaderstats). @throws Error for a text without statistics. */
export function readMachineCode(text: string): MachineCode {
  const statistic = (name: string): number => {
    const value = new RegExp(`^${name}: (\\d+)`, "m").exec(text)?.[1];
    if (value === undefined) throw new Error(`RADV printed no "${name}":\n${text.slice(-2000)}`);
    return Number(value);
  };
  return {
    registers: statistic("VGPRs"),
    spilled: statistic("Spilled VGPRs"),
    scratchBytes: statistic("Scratch size"),
    waves: statistic("Subgroups per SIMD"),
    ldsBytes: statistic("LDS size"),
    instructions: statistic("Instructions"),
    inverseThroughput: statistic("Inverse Throughput"),
    blocks: readBlocks(text),
  };
}

interface Lines {
  readonly name: string;
  readonly operations: string[];
}

function readBlocks(text: string): Block[] {
  const blocks: Lines[] = [];
  for (const line of text.split("\n")) {
    const name = /^BB\d+/.exec(line)?.[0];
    if (name !== undefined) blocks.push({ name, operations: [] });
    else if (/^\s+[a-z]+_/.test(line)) blocks.at(-1)?.operations.push(...operationsOf(line));
  }
  const loops = loopsOf(blocks);
  const innermost = loops.filter((loop) => !loops.some((other) => other !== loop && isWithin(other, loop)));
  const isIn = (all: readonly Loop[], i: number): boolean => all.some(({ first, last }) => first <= i && i <= last);
  return blocks.map((block, i) => readBlock(block, isIn(loops, i), isIn(innermost, i)));
}

/** The operations of a line, which are two in a dual instruction, without the encoding. */
const operationsOf = (line: string): string[] =>
  line
    .replace(/;.*/, "")
    .split("::")
    .map((operation) => operation.trim());

/** The blocks from the target of a backward jump to the last jump to it. */
interface Loop {
  readonly first: number;
  readonly last: number;
}

function loopsOf(blocks: readonly Lines[]): Loop[] {
  const indices = new Map(blocks.map(({ name }, i) => [name, i]));
  const lasts = new Map<number, number>();
  blocks.forEach(({ operations }, last) => {
    for (const operation of operations) {
      const first = indices.get(/^s_c?branch\w* (BB\d+)/.exec(operation)?.[1] ?? "");
      if (first !== undefined && first <= last) lasts.set(first, last);
    }
  });
  return [...lasts].map(([first, last]) => ({ first, last }));
}

const isWithin = (inner: Loop, outer: Loop): boolean => outer.first <= inner.first && inner.last <= outer.last;

function readBlock({ name, operations }: Lines, isInLoop: boolean, isInnermost: boolean): Block {
  const count = (pattern: RegExp): number => operations.filter((operation) => pattern.test(operation)).length;
  const bytesOf = (pattern: RegExp): number[] =>
    operations.filter((operation) => pattern.test(operation)).map((operation) => accessBytes(operation));
  return {
    name,
    fma: operations.reduce((sum, operation) => sum + multiplyAdds(operation), 0),
    valu: count(/^v_/),
    ldsBytes: bytesOf(/^ds_(read|load)/).reduce((a, b) => a + b, 0),
    reads: bytesOf(/^(buffer|global|flat)_load/),
    writes: bytesOf(/^(buffer|global|flat)_store/),
    scratch: count(/^scratch_/),
    isInLoop,
    isInnermost,
  };
}

/** Multiply-adds of floats; those of integers, such as v_mad_u32_u24, make addresses. */
function multiplyAdds(operation: string): number {
  if (/^v_(pk_fma|pk_fmac|dot2)\w*_(bf|f)16/.test(operation)) return 2;
  return /^v_(dual_)?(fma|fmac|fmaak|fmamk|mad|mac)(_mix\w*|_legacy)?_(f32|f16|bf16)/.test(operation) ? 1 : 0;
}

/** Bytes that a lane reads or writes: RDNA2 calls 16 bytes dwordx4, RDNA3 b128. */
function accessBytes(operation: string): number {
  const [instruction = ""] = operation.split(" ");
  const isPair = /^ds_(read2|load_2addr)/.test(instruction);
  const bits = /_[biuf](\d+)(?:_|$)/.exec(instruction)?.[1];
  const words = /dwordx?(\d?)/.exec(instruction);
  if (words) return 4 * Number(words[1] || 1);
  if (bits !== undefined) return (isPair ? 2 : 1) * (Number(bits) / 8);
  if (/byte/.test(instruction)) return 1;
  if (/short|d16/.test(instruction)) return 2;
  throw new Error(`The width of ${instruction} is not known.`);
}

/** The block with most multiply-adds, usually the inner loop; undefined for code without any. */
export function hottest({ blocks }: MachineCode): Block | undefined {
  const [first] = [...blocks].sort((a, b) => b.fma - a.fma);
  return first && first.fma > 0 ? first : undefined;
}

/**
 * Blocks of inner loops with at least half the multiply-adds of the hottest: attention has an inner loop for every product. What it
 * does with a tile of scores between these, such as a soft cap, has multiply-adds too, but runs once a tile.
 */
export function heavyBlocks(code: MachineCode): Block[] {
  const most = hottest(code)?.fma ?? Infinity;
  const heavy = code.blocks.filter(({ fma }) => 2 * fma >= most);
  const inner = heavy.filter(({ isInnermost }) => isInnermost);
  return inner.length > 0 ? inner : heavy;
}

/** The blocks in loops that access global memory; all blocks where no loop does. */
export function streamingBlocks({ blocks }: MachineCode): readonly Block[] {
  const loops = blocks.filter(({ isInLoop, reads, writes }) => isInLoop && reads.length + writes.length > 0);
  return loops.length > 0 ? loops : blocks;
}
