import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { composeKernel, withoutComments } from "../../src/gpu/compose";
import { kernelInterface } from "../../src/gpu/wgsl";
import { packUniforms } from "../../src/gpu/uniforms";
import { OPS } from "../../src/testing/ops";
import type { Kernel } from "../../src/op/kernel";
import type { AbsorbedLaunch } from "../../src/op/launch";
import { DEFAULT_LIMITS } from "../../src/op/limits";
import { planCase, traceCase } from "../../src/testing/case-plan";
import { deviceLaunches } from "../../src/run/device-launches";
import { launchContext } from "../../src/tape/emit";
import { slotSpec } from "../../src/tape/forward";
import type { Plan, PlannedLaunch } from "../../src/tape/plan";
import { reach } from "../../src/tape/reach";
import { backwardTasks, outputGradient } from "../../src/tape/saves";

/** WebGPU's default limit of storage buffers per stage. */
const MAX_BINDINGS = 8;

/** The module's variables that an entry point uses, directly or through the functions that it calls. The code has no comments. */
function usedVariables(code: string, entry: string, variables: readonly string[]): string[] {
  const bodies = new Map<string, string>();
  for (const declaration of code.matchAll(/\bfn\s+(\w+)\s*\(/g)) {
    const next = code.slice(declaration.index + 2).search(/\n(@|(?:fn|struct|const|alias|var)\b)/);
    bodies.set(declaration[1]!, code.slice(declaration.index, next < 0 ? undefined : declaration.index + 2 + next));
  }
  const visited = new Set<string>();
  const pending = [entry];
  const used = new Set<string>();
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const body = bodies.get(name);
    if (body === undefined || visited.has(name)) continue;
    visited.add(name);
    const inside = body.slice(body.indexOf("{"));
    const words = new Set(inside.match(/(?<![.\w])\w+/g));
    // A local of the same name hides the module's variable.
    const locals = new Set([...inside.matchAll(/\b(?:let|var|const)\s+(\w+)/g)].map(([, local]) => local));
    for (const variable of variables) if (words.has(variable) && !locals.has(variable)) used.add(variable);
    for (const other of bodies.keys()) if (words.has(other)) pending.push(other);
  }
  return [...used].sort();
}

function checkLaunch({ launch, bindings }: PlannedLaunch): void {
  const { params } = kernelInterface(launch.kernel);
  const bound = bindings.map(({ variable }) => variable);
  for (const { kernel } of [launch, ...(launch.variants ?? [])]) {
    checkKernel(kernel, launch.entry, bound);
    expect(kernelInterface(kernel).params, `Params of ${kernel.name}.wgsl`).toEqual(params);
  }
  expect(bound.length, `storage bindings: ${launch.entry}`).toBeLessThanOrEqual(MAX_BINDINGS);
}

/** Checks the dispatches that do the work of several launches: what they bind, and the params that they read. */
function checkAbsorptions({ launches }: Plan): void {
  const handle = { limits: { maxStorageBuffersPerShaderStage: Infinity } };
  const dispatches = deviceLaunches({ launches }, { variants: ({ variants }) => variants?.[0], handle });
  for (const { launch, bindings, index, absorbed } of dispatches) {
    const { kernel, params } = launches[index]!.launch;
    if (launch.entry === launches[index]!.launch.entry) continue;
    checkKernel(
      launch.kernel,
      launch.entry,
      bindings.map(({ variable }) => variable),
    );
    const { uniforms, params: fields } = kernelInterface(launch.kernel);
    expect(fields).toEqual(kernelInterface(kernel).params);
    expect([...uniforms.keys()]).toEqual(expect.arrayContaining([...absorbed.keys()]));
    for (const { kernel: other, entry, params: variable } of absorptionsBy(launches[index]!, launch.entry)) {
      if (variable !== undefined || other !== kernel.name) continue;
      // Without params of its own, what is absorbed has those of the launch.
      const same = launches.find((each) => each.launch.kernel.name === other && each.launch.entry === entry);
      expect(same?.launch.params, `params of ${entry}`).toEqual(params);
    }
  }
}

const absorptionsBy = ({ launch }: PlannedLaunch, entry: string): AbsorbedLaunch[] =>
  (launch.absorbs ?? [])
    .filter(({ by }) => by === entry)
    .flatMap(({ before = [], after = [] }) => [...before, ...after]);

function checkKernel(kernel: Kernel, entry: string, variables: readonly string[]): void {
  const place = `${kernel.name}.wgsl, ${entry}`;
  const code = withoutComments(composeKernel(kernel).code);
  const declared = kernelInterface(kernel).bindings;
  expect(code, place).toMatch(new RegExp(`@compute[^{]*fn ${entry}\\(`));
  expect([...variables].sort(), `bound variables, which must be the used ones: ${place}`).toEqual(
    usedVariables(code, entry, [...declared.keys()]),
  );
}

const cases = OPS.flatMap((op) =>
  op.cases.filter(({ bench }) => !bench).map((test) => [`${op.name}: ${test.name}`, op, test] as const),
);

describe("launches", () => {
  it.each(cases)("bind exactly the variables that their entry points use: %s", (_name, op, test) => {
    const planned = planCase(op, test);
    const { launches } = planned;
    expect(launches.length).toBeGreaterThan(0);
    launches.forEach(checkLaunch);
    checkAbsorptions(planned);
    expect(() => packUniforms(launches.map(({ launch }) => launch))).not.toThrow();
  });
});

describe("inverses", () => {
  const invertible = cases.filter(([, op]) => op.inverse);

  it.each(invertible)(
    "bind exactly the variables that their entries use, and write their input: %s",
    (_name, op, test) => {
      const { tape } = traceCase(op, test);
      const [node] = tape.nodes;
      for (const inPlace of [false, true]) {
        const context = launchContext(node!, DEFAULT_LIMITS, (slot) => slotSpec(tape, node!, slot), { inPlace });
        const launches = op.inverse!.launches(context);
        for (const launch of launches) checkKernel(launch.kernel, launch.entry, Object.keys(launch.bindings));
        expect(() => packUniforms(launches)).not.toThrow();
        const slots = launches.flatMap(({ bindings }) =>
          Object.values(bindings).map((bound) => (typeof bound === "string" ? bound : bound.slot)),
        );
        const start = inPlace ? [] : [op.outputs[0]!];
        expect(new Set(slots)).toEqual(new Set([...start, ...Object.keys(test.inputs)]));
      }
    },
  );
});

describe("gradients", () => {
  const differentiable = cases.filter(([, op]) => op.gradients.length > 0);

  it.each(differentiable)("read exactly the slots that they declare: %s", (_name, op, test) => {
    const { tape, loss, trainable } = traceCase(op, test);
    const tasks = backwardTasks(tape, loss!, reach(tape, loss!, trainable));
    for (const { node, rule, temp, reads } of tasks) {
      const context = launchContext(node, DEFAULT_LIMITS, (slot) => slotSpec(tape, node, slot));
      const declared = temp === undefined ? undefined : node.op.temps?.[temp];
      const launches = (rule ? rule.launches?.(context) : declared?.launches(context)) ?? [];
      const targets = rule ? rule.wrt.map((slot) => `d${slot}`) : [temp!];
      const bound = launches.flatMap(({ bindings }) => Object.values(bindings));
      const slots = new Set(bound.map((target) => (typeof target === "string" ? target : target.slot)));
      const read = [...slots].filter((slot) => !targets.includes(slot)).sort();
      const allowed = new Set([...reads, outputGradient(node)]);
      const place = `${op.name}, ${rule ? `gradient of ${rule.wrt.join(", ")}` : `temp ${temp!}`}`;
      expect(
        read.filter((slot) => !allowed.has(slot)),
        `bound but not declared as read: ${place}`,
      ).toEqual([]);
      const unread = reads.filter((slot) => slot !== outputGradient(node) && !slots.has(slot));
      expect(rule?.passesThrough ? [] : unread, `declared as read but not bound: ${place}`).toEqual([]);
    }
  });
});

describe("kernel files", () => {
  const files = readdirSync("kernels").filter((file) => file.endsWith(".wgsl"));

  it.each(files)("begin with a description, shapes, threads and range: %s", (file) => {
    const opening = /^(?:\/\/.*\n)+/.exec(readFileSync(`kernels/${file}`, "utf8"))?.[0] ?? "";
    expect(opening).toMatch(/Shapes?/);
    expect(opening).toMatch(/Threads/);
    expect(opening).toMatch(/Range/);
  });

  it("are all used by an op or by plans, and all parts by a kernel", () => {
    const used = cases.flatMap(([, op, test]) =>
      planCase(op, test).launches.flatMap(({ launch }) =>
        [launch, ...(launch.variants ?? []), ...(launch.absorbs ?? []).flatMap(({ variants = [] }) => variants)].map(
          ({ kernel }) => kernel,
        ),
      ),
    );
    const origins = new Set(
      [...new Set(used)].flatMap((kernel) => composeKernel(kernel).origins.map(({ file }) => file)),
    );
    // Plans use these two: `accumulate` adds two gradients of one value, and `pack` stores saved values in fewer bits.
    const all = new Set([...origins, "accumulate.wgsl", "pack.wgsl"]);
    expect([...all].sort()).toEqual([...files, ...readdirSync("kernels/lib").map((file) => `lib/${file}`)].sort());
  });
});
