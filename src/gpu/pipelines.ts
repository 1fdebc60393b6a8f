import type { Launch } from "../op/launch";
import { compileError, pipelineError } from "./compile-error";
import { withConstants } from "./wgsl";

/** A compiled module and its WGSL text. */
interface Module {
  readonly module: GPUShaderModule;
  readonly code: string;
}

/** Compute pipelines, each created once per kernel, constants and entry point. */
export class Pipelines {
  #modules = new Map<string, Promise<Module>>();
  #pipelines = new Map<string, Promise<GPUComputePipeline>>();

  /** @param waiting waits for the device: while a driver compiles, polling it would take a core that the driver may need. */
  constructor(
    private readonly device: GPUDevice,
    private readonly waiting: <T>(work: Promise<T>) => Promise<T>,
  ) {}

  /** The pipeline of a launch. @throws KernelError when the kernel does not compile. */
  get(launch: Launch): Promise<GPUComputePipeline> {
    return once(this.#pipelines, pipelineKey(launch), () => this.#create(launch));
  }

  async #create(launch: Launch): Promise<GPUComputePipeline> {
    const { kernel, constants, entry } = launch;
    await kernel.load?.();
    const { module, code } = await once(this.#modules, moduleKey(launch), () =>
      this.#compile(kernel, withConstants(kernel, constants ?? {})),
    );
    try {
      const pipeline = this.device.createComputePipelineAsync({
        label: `${kernel.name}.${entry}`,
        layout: "auto",
        compute: { module, entryPoint: entry },
      });
      return await this.waiting(pipeline);
    } catch (error) {
      // WebGPU rejects with a GPUPipelineError; a catch clause cannot say so.
      throw pipelineError(kernel, code, entry, error as GPUPipelineError);
    }
  }

  async #compile(kernel: Launch["kernel"], code: string): Promise<Module> {
    this.device.pushErrorScope("validation");
    const module = this.device.createShaderModule({ label: kernel.name, code });
    // The scope is popped before the first await, so that it catches no errors of other work.
    const validation = this.device.popErrorScope();
    const { messages } = await module.getCompilationInfo();
    const refusal = await validation;
    const error = messages.find(({ type }) => type === "error");
    if (!error && !refusal) return { module, code };
    throw compileError(kernel, code, error ?? { message: refusal?.message ?? "", lineNum: 0, linePos: 0 });
  }
}

const moduleKey = ({ kernel, constants = {} }: Pick<Launch, "kernel" | "constants">): string =>
  `${kernel.name} ${JSON.stringify(constants)}`;

/** What tells one pipeline from others: the kernel, its constants and the entry. */
export const pipelineKey = (launch: Pick<Launch, "kernel" | "constants" | "entry">): string =>
  `${moduleKey(launch)} ${launch.entry}`;

/** The cached result for `key`, created on first use. Failures are not cached, since the next attempt may find memory. */
function once<T>(cache: Map<string, Promise<T>>, key: string, create: () => Promise<T>): Promise<T> {
  const cached = cache.get(key);
  if (cached) return cached;
  const created = create();
  cache.set(key, created);
  created.catch(() => cache.delete(key));
  return created;
}
