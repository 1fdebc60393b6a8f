/*
 * Keys of the tensors that a parameter has in addition to its gradient. Checkpoints are written under these keys, so their
 * text must not change.
 */

/** Key of a tensor of an optimizer's state, such as the first moment of a parameter. */
export const stateName = (slot: string, parameter: string): string => `${slot} of ${parameter}`;

/** Key of a parameter's mask: 1 keeps an element, 0 keeps it at 0. */
export const maskName = (parameter: string): string => `mask of ${parameter}`;

const SPAN = "from ";

/** Key under which plans bind a tensor together with those that follow it in its arena. */
export const spanName = (first: string): string => `${SPAN}${first}`;

/** The key of the tensor at which a key's memory begins. */
export const firstOfSpan = (key: string): string => (key.startsWith(SPAN) ? key.slice(SPAN.length) : key);
