// Runs in Deno: loads the script of a page from its address, and calls its functions. Each line of stdin is a call as JSON, [name,
// arguments]; each line of stdout begins with a mark and is its result, { value } or { error }.
import { createInterface } from "node:readline";
import process from "node:process";

const [address, mark] = process.argv.slice(2);
await import(address);
for await (const line of createInterface({ input: process.stdin })) {
  const [name, args] = JSON.parse(line);
  let result;
  try {
    result = { value: await globalThis.page[name](...args) };
  } catch (error) {
    result = { error: error.stack };
  }
  process.stdout.write(`${mark}${JSON.stringify(result)}\n`);
}
process.exit(0);
