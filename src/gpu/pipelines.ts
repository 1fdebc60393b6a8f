import type { Launch } from "../op/launch";
import { compileError, pipelineError } from "./compile-error";
import { withConstants } from "./wgsl";

/** A compiled module and its text. */
interface Module {
  readonly module: GPUShaderModule;
  readonly code: string;
}

/** Shader modules and compute pipelines, made once per kernel, constants and entry. */
export class Pipelines {
  #modules = new Map<string, Promise<Module>>();
  #pipelines = new Map<string, Promise<GPUComputePipeline>>();

  constructor(private readonly device: GPUDevice) {}

  /** @throws KernelError when the kernel does not compile. */
  get(launch: Launch): Promise<GPUComputePipeline> {
    const moduleKey = `${launch.kernel.name} ${JSON.stringify(launch.constants ?? {})}`;
    return once(this.#pipelines, `${moduleKey} ${launch.entry}`, () => this.#make(launch, moduleKey));
  }

  async #make({ kernel, constants, entry }: Launch, moduleKey: string): Promise<GPUComputePipeline> {
    const { module, code } = await once(this.#modules, moduleKey, () =>
      this.#compile(kernel, withConstants(kernel, constants ?? {})),
    );
    try {
      return await this.device.createComputePipelineAsync({
        label: `${kernel.name}.${entry}`,
        layout: "auto",
        compute: { module, entryPoint: entry },
      });
    } catch (error) {
      throw pipelineError(kernel, code, entry, error as Error);
    }
  }

  async #compile(kernel: Launch["kernel"], code: string): Promise<Module> {
    this.device.pushErrorScope("validation");
    const module = this.device.createShaderModule({ label: kernel.name, code });
    // Popped before anything is waited for: other work must not fall into this scope.
    const scope = this.device.popErrorScope();
    const { messages } = await module.getCompilationInfo();
    const refused = await scope;
    const error = messages.find(({ type }) => type === "error");
    if (!error && !refused) return { module, code };
    throw compileError(kernel, code, error ?? { message: refused?.message ?? "", lineNum: 0, linePos: 0 });
  }
}

/** What is made once and shared; a failure is not kept, since the next attempt may find memory. */
function once<T>(made: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const found = made.get(key);
  if (found) return found;
  const making = make();
  made.set(key, making);
  making.catch(() => made.delete(key));
  return making;
}
