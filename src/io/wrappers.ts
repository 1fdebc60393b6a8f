/**
 * What wrappers put into the names of a model's tensors when one saves the wrapper's state instead of the model's:
 * `torch.compile`, FSDP and checkpointed activations (at any module), `DataParallel` and its kin, Lightning, PEFT.
 */
const WRAPPERS = [
  /(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\./g,
  /^(?:module|_forward_module)\./g,
  /^base_model\.model\./g,
];

/** The tensors of a file by the names that they have in the model alone, and what was taken off their names. */
export interface Unwrapped<T> {
  readonly tensors: Map<string, T>;
  /** Distinct parts that were taken off, such as "_orig_mod."; empty for most files. */
  readonly removed: readonly string[];
}

/** Takes the parts that wrappers add off the names of tensors. All names stay where two of them would become the same. */
export function unwrapped<T>(tensors: ReadonlyMap<string, T>): Unwrapped<T> {
  const removed = new Set<string>();
  const bare = new Map([...tensors].map(([name, tensor]) => [bareName(name, removed), tensor]));
  return bare.size === tensors.size
    ? { tensors: bare, removed: [...removed] }
    : { tensors: new Map(tensors), removed: [] };
}

/** A tensor's name without what wrappers add. They nest in any order: their parts are taken off until nothing changes. */
export function bareName(name: string, removed = new Set<string>()): string {
  let bare = name;
  for (const wrapper of WRAPPERS) {
    bare = bare.replace(wrapper, (part) => {
      removed.add(part);
      return "";
    });
  }
  return bare === name ? bare : bareName(bare, removed);
}
