// Answers the page's calls, one message each.
import { SafetapeError } from "../../../src/base/errors";
import { unforeseen } from "../protocol";
import type { Call, Fault, Message } from "../protocol";
import { Session } from "./session";

// TypeScript declares the global scope of a page here, whose postMessage takes other arguments.
const scope = globalThis as unknown as {
  postMessage(message: Message): void;
  onmessage: ((event: MessageEvent<Call>) => void) | null;
};

const session = new Session((event) => scope.postMessage({ event }));

function faultOf(error: unknown): Fault {
  if (error instanceof SafetapeError) return { name: error.name, fact: error.fact, remedy: error.remedy };
  return unforeseen(error);
}

scope.onmessage = ({ data: { id, name, args } }) => {
  // The page calls functions of the interface, with their arguments, which the compiler cannot relate to the name.
  const call = session[name].bind(session) as (...args: readonly unknown[]) => Promise<unknown>;
  call(...args).then(
    (result) => scope.postMessage({ id, result }),
    (error: unknown) => scope.postMessage({ id, fault: faultOf(error) }),
  );
};
