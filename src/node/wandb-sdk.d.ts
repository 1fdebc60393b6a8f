// What is used of the package. It is optional, and its own types need those of graphql-request.
declare module "@wandb/sdk" {
  export interface WandbRun {
    readonly id: string;
    /** Adds `_step` to what it is given. */
    readonly log: (data: Record<string, number>, step: number) => void;
    readonly finish: () => Promise<void>;
  }
  export interface WandbOptions {
    readonly project: string;
    readonly entity?: string;
    readonly name: string;
    readonly config: object;
    readonly settings: { readonly silent: boolean };
  }
  const wandb: { readonly init: (options: WandbOptions) => Promise<WandbRun> };
  export default wandb;
}
