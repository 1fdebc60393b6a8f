// @ts-check
// Serves examples/browser together with the built package:  node scripts/example.mjs [PORT]
import { EXAMPLE_MOUNTS, serve } from "./serve.mjs";

const { url } = await serve(EXAMPLE_MOUNTS, { port: Number(process.argv[2] ?? 8080) });
console.log(`Open ${url}/examples/browser/ in a browser with WebGPU.`);
