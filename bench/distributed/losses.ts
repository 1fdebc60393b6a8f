import { lora } from "../../src/adapter/lora";
import { Batches } from "../../src/data/batches";
import { readGlue } from "../../src/data/glue";
import { encodeExamples } from "../../src/data/sample";
import { loadTokenizer } from "../../src/data/tokenizer";
import type { JoinOptions } from "../../src/distributed/join";
import type { Engine } from "../../src/engine";
import { loadModel } from "../../src/io/load-model";
import { openDirectory } from "../../src/node/directory";
import { join } from "../../src/node/entry/distributed";
import { Trainer } from "../../src/train/trainer";
import type { NatsServer } from "./nats-server";

/** How two devices exchange; undefined for one device alone. */
export type Exchange = Pick<JoinOptions, "encoding" | "localSteps"> | undefined;

const STEPS = 50;

/** Rows of the examples' sentences. */
async function rowsOf(file: string) {
  const tokenizer = await loadTokenizer(await openDirectory("examples/model"));
  const { examples } = await readGlue(await openDirectory("examples/data/sentiment"), file, "sst2");
  return encodeExamples(examples, tokenizer, { maxLength: 40 }).samples;
}

/** Trains on the examples' sentences, on two devices of one process, and returns the loss on those that were held back. */
export async function lossOf(engine: Engine, server: NatsServer, run: string, exchange: Exchange): Promise<number> {
  const [train, dev] = [await rowsOf("train.tsv"), await rowsOf("dev.tsv")];
  const device = async (): Promise<Trainer> =>
    Trainer.create({
      model: await loadModel(engine, await openDirectory("examples/model")),
      adapter: lora({ rank: 4, alpha: 16 }),
      data: new Batches(train, { size: 32, seed: 1 }),
      steps: STEPS,
      optimizer: { learningRate: 2e-3, maxGradNorm: 1 },
      schedule: { type: "linear", warmupRatio: 0.06 },
      ...(exchange && { distributed: join({ ...exchange, servers: server.address, run, deadline: 30, devices: 2 }) }),
    });
  const trainers = [await device()];
  if (exchange) trainers.push(await device());
  await Promise.all(trainers.map((trainer) => trainer.train()));
  const { loss } = await trainers[0]!.evaluate(
    new Batches(dev.slice(0, 320), { size: 32, shuffle: false }).restOfEpoch(),
  );
  for (const trainer of trainers) {
    trainer.dispose();
    trainer.options.model.dispose();
  }
  return loss;
}
