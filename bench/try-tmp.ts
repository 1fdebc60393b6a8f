import { READERS, inputsOf, readInput } from "/tmp/wt/hostile/test/hostile/corpus";
import { watchdog } from "/tmp/wt/hostile/test/hostile/watchdog";
const dog = watchdog(READERS.map((r) => r.name), 10000);
const only = process.argv[2];
for (const [r, reader] of READERS.entries()) {
  if (only && reader.name !== only) continue;
  const t0 = performance.now();
  const counts: Record<string, number> = {}; let fails = 0, slow = 0, buf = 0, heap = 0, worst = "";
  let i = 0;
  for (const input of inputsOf(reader, Number(process.argv[3] ?? 2000))) {
    dog.begin(r, i++);
    try {
      const t = await readInput(reader, input);
      counts[t.outcome] = (counts[t.outcome] ?? 0) + 1;
      if (t.milliseconds > slow) { slow = t.milliseconds; worst = input.name; }
      buf = Math.max(buf, t.bufferBytes); heap = Math.max(heap, t.heapBytes);
    } catch (e) { if (fails++ < 8) console.log("  FAIL", (e as Error).message.slice(0, 300), "|", String(((e as Error).cause as Error)?.stack).split("\n").slice(1, 4).map(s=>s.trim()).join(" < ")); }
  }
  dog.begin(r, -1);
  console.log(reader.name, JSON.stringify(counts), "fails", fails, "slowest", slow.toFixed(0), worst, "buf", buf, "heap", heap, `${((performance.now() - t0) / 1000).toFixed(1)} s`);
}
await dog.stop();
