import { KernelError } from "../base/errors";
import type { Launch } from "../op/launch";
import { withConstants } from "./wgsl";

/** Shader modules and compute pipelines, made once per kernel, constants and entry. */
export class Pipelines {
  #modules = new Map<string, Promise<GPUShaderModule>>();
  #pipelines = new Map<string, Promise<GPUComputePipeline>>();

  constructor(private readonly device: GPUDevice) {}

  /** @throws KernelError when the kernel does not compile. */
  get(launch: Launch): Promise<GPUComputePipeline> {
    const moduleKey = `${launch.kernel.name} ${JSON.stringify(launch.constants ?? {})}`;
    const key = `${moduleKey} ${launch.entry}`;
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      pipeline = this.#make(launch, moduleKey);
      this.#pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  async #make(launch: Launch, moduleKey: string): Promise<GPUComputePipeline> {
    let module = this.#modules.get(moduleKey);
    if (!module) {
      module = this.#compile(launch);
      this.#modules.set(moduleKey, module);
    }
    const compiled = await module;
    try {
      return await this.device.createComputePipelineAsync({
        label: `${launch.kernel.name}.${launch.entry}`,
        layout: "auto",
        compute: { module: compiled, entryPoint: launch.entry },
      });
    } catch (error) {
      throw new KernelError(
        `kernels/${launch.kernel.name}.wgsl: no pipeline for entry ${launch.entry}: ${(error as Error).message}`,
        "Check the entry's name, its workgroup size and the adapter's limits.",
        { cause: error },
      );
    }
  }

  async #compile(launch: Launch): Promise<GPUShaderModule> {
    const code = withConstants(launch.kernel, launch.constants ?? {});
    this.device.pushErrorScope("validation");
    const module = this.device.createShaderModule({ label: launch.kernel.name, code });
    const { messages } = await module.getCompilationInfo();
    const scope = await this.device.popErrorScope();
    const error = messages.find((message) => message.type === "error");
    if (!error && !scope) return module;
    const line = error?.lineNum ?? 0;
    const lines = code.split("\n").slice(Math.max(0, line - 2), line + 1);
    throw new KernelError(
      `kernels/${launch.kernel.name}.wgsl:${line}: ${error?.message ?? scope?.message ?? "does not compile"}\n${lines.join("\n")}`,
      "Mend the kernel; every .wgsl file must compile as it stands.",
    );
  }
}
