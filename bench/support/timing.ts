/** Durations of one of several alternating runs, round by round. */
export interface RunTimes {
  readonly wallMs: number[];
  /** CPU time of all threads of this process, which other programs disturb less than wall time. */
  readonly cpuMs: number[];
}

/** Times runs alternately, so that noise affects all of them equally, after two rounds of warm-up. */
export async function timeAlternately(runs: readonly (() => Promise<unknown>)[], rounds: number): Promise<RunTimes[]> {
  const times = runs.map((): RunTimes => ({ wallMs: [], cpuMs: [] }));
  for (let round = -2; round < rounds; round++) {
    for (const [i, run] of runs.entries()) {
      const [start, cpuBefore] = [performance.now(), process.cpuUsage()];
      await run();
      const { user, system } = process.cpuUsage(cpuBefore);
      if (round < 0) continue;
      times[i]?.wallMs.push(performance.now() - start);
      times[i]?.cpuMs.push((user + system) / 1000);
    }
  }
  return times;
}
