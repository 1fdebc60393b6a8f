/** What an adapter claims about itself. */
export interface Claims {
  readonly info?: Partial<GPUAdapterInfo>;
  /** Optional features that it hides. */
  readonly hidden?: readonly GPUFeatureName[];
}

/** A GPU whose adapters claim to be others, so that the choice of kernels can be tried on a software adapter. */
export function claiming(gpu: GPU, { info = {}, hidden = [] }: Claims): GPU {
  return replacing(gpu, {
    async requestAdapter(options?: GPURequestAdapterOptions) {
      const adapter = await gpu.requestAdapter(options);
      if (!adapter) return null;
      const features = new Set([...adapter.features].filter((name) => !hidden.some((feature) => feature === name)));
      return replacing(adapter, { info: replacing(adapter.info, info), features });
    },
  });
}

/** An object with some members replaced. */
function replacing<T extends object>(object: T, members: object): T {
  return new Proxy(object, {
    get(target, key): unknown {
      if (key in members) return Reflect.get(members, key);
      const member: unknown = Reflect.get(target, key, target);
      // Methods of Dawn's objects need their object as `this`.
      if (typeof member !== "function") return member;
      return (...args: unknown[]): unknown => Reflect.apply(member, target, args);
    },
  });
}
