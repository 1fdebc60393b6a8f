import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError } from "safetape/engine";
import { join, stepWireBytes, WIRE_ENCODINGS } from "safetape/distributed";
import { HEAD_BYTES, partBytes, resultBytes } from "../../src/distributed/bytes";
import { decode, encode, encodedBytes, Encoder } from "../../src/distributed/encoding";
import { Assembly, contentsOf, headOf, messages, newId, Signer } from "../../src/distributed/frame";
import type { Contents } from "../../src/distributed/frame";
import { shareIn, Speeds, weightsOf } from "../../src/distributed/shares";
import { rowsOf } from "../../src/train/step/rows-of-share";
import { failure } from "../support/failure";

const numbers = fc.float32Array({
  minLength: 0,
  maxLength: 700,
  noNaN: true,
  noDefaultInfinity: true,
  min: -1e6,
  max: 1e6,
});

describe("the encodings of gradients", () => {
  it("f32 keeps all bits, those of numbers that are not finite too", () => {
    const values = Float32Array.of(1.5, -0, NaN, -Infinity, 1e-45);
    const decoded = decode(encode(values, "f32"), values.length, "f32");
    expect(new Uint32Array(decoded.buffer)).toEqual(new Uint32Array(values.buffer));
  });

  it("bf16 rounds to the nearest of eight bits, ties to even", () => {
    const values = Float32Array.of(1, 1 + 2 ** -7, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -3.14159, NaN);
    const decoded = decode(encode(values, "bf16"), values.length, "bf16");
    expect([...decoded]).toEqual([1, 1 + 2 ** -7, 1, 1 + 2 ** -6, -3.140625, NaN]);
  });

  it("int8 is wrong by at most half of a step of its block, and keeps zeros", () => {
    fc.assert(
      fc.property(numbers, (values) => {
        const decoded = decode(encode(values, "int8"), values.length, "int8");
        values.forEach((value, i) => {
          const block = values.subarray(256 * Math.floor(i / 256), 256 * Math.floor(i / 256) + 256);
          const largest = Math.max(...block.map(Math.abs));
          expect(Math.abs(decoded[i]! - value)).toBeLessThanOrEqual((largest / 127) * 0.5001 + 1e-38);
        });
      }),
    );
    expect([...decode(encode(new Float32Array(3), "int8"), 3, "int8")]).toEqual([0, 0, 0]);
  });

  it("bytes are as predicted", () => {
    for (const encoding of WIRE_ENCODINGS) {
      for (const count of [0, 1, 255, 256, 257, 1000]) {
        expect(encode(new Float32Array(count).fill(1), encoding).length, `${count} as ${encoding}`).toBe(
          encodedBytes(count, encoding),
        );
      }
    }
  });

  it("what int8 leaves out arrives with the next vectors", () => {
    const encoder = new Encoder("int8");
    const wanted = Float32Array.of(1, 0.001, -0.0021, 0.5);
    const sums = new Float64Array(4);
    for (let round = 0; round < 200; round++) {
      // The same vector encodes alike until it was used.
      expect(encoder.encode(wanted)).toEqual(encoder.encode(wanted));
      decode(encoder.encode(wanted), 4, "int8").forEach((value, i) => (sums[i]! += value));
      encoder.commit();
    }
    sums.forEach((sum, i) => expect(sum / 200).toBeCloseTo(wanted[i]!, 4));
  });
});

describe("messages", () => {
  const head = {
    kind: "result",
    sender: newId(),
    run: newId(),
    digest: newId(),
    round: 7,
    attempt: 2,
    millis: 31,
  } as const;
  const contents: Contents = {
    exact: Float32Array.of(0.5),
    values: { bytes: encode(new Float32Array(1000).fill(2), "int8"), count: 1000, encoding: "int8" },
    plan: { attempt: 1, isMixed: true, places: [{ id: newId(), weight: 3 }] },
    record: { frozen: ["a"] },
  };

  it("hold what was put into them, in as many as a limit makes of them", async () => {
    const signer = await Signer.create("token");
    for (const limit of [100, 1 << 19]) {
      const sent = await messages(signer, head, contents, limit);
      const assembly = new Assembly();
      const complete = sent.map((message) => assembly.add(headOf(message)!, message));
      expect(complete.slice(0, -1).every((early) => early === undefined)).toBe(true);
      const { head: received, chunks } = complete.at(-1)!;
      expect(received).toMatchObject(head);
      const { values, ...others } = contentsOf(received, chunks);
      expect(others).toEqual({ exact: contents.exact, plan: contents.plan, record: contents.record });
      expect(values.every((value) => value === 2)).toBe(true);
      const record = JSON.stringify(contents.record).length;
      const bytes = sent.reduce((sum, { length }) => sum + length, 0);
      expect(bytes).toBe(resultBytes({ exact: 1, values: 1000, record }, 1, { encoding: "int8", chunk: limit }));
    }
  });

  it("are not verified after any change, or with another token", async () => {
    const signer = await Signer.create("token");
    const [message] = await messages(signer, head, contents, 1 << 19);
    expect(await signer.verify(message!)).toBe(true);
    expect(await (await Signer.create("other")).verify(message!)).toBe(false);
    for (const at of [4, 9, 63, HEAD_BYTES - 1, HEAD_BYTES, message!.length - 1]) {
      const changed = message!.slice();
      changed[at]! ^= 1;
      expect(await signer.verify(changed), `byte ${at}`).toBe(false);
    }
  });

  it("any bytes are read without more than an error of one's own", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        bytes.set([0x53, 0x54, 0x57, 0x31].slice(0, bytes.length));
        const read = headOf(bytes);
        if (!read) return;
        try {
          contentsOf(read, [bytes]);
        } catch (error) {
          expect(error).toHaveProperty("name", "DistributedError");
        }
      }),
    );
  });
});

describe("shares", () => {
  it("are all rows, each once, for any weights and any number of rows", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1, maxLength: 9 }),
        fc.integer({ min: 0, max: 100 }),
        fc.integer({ min: 1, max: 2 }),
        (weights, groups, together) => {
          const places = weights.map((weight) => ({ id: newId(), weight }));
          const ranges = places.map(({ id }) =>
            rowsOf(shareIn({ attempt: 0, isMixed: false, places }, id)!, groups * together, together),
          );
          let next = 0;
          for (const { from, to } of ranges) {
            expect(from).toBe(next);
            expect(from % together).toBe(0);
            next = to;
          }
          expect(next).toBe(groups * together);
        },
      ),
    );
  });

  it("follow the speeds that were measured, once that is worth it", () => {
    const places = ["a", "b"].map((id) => ({ id, weight: 1000 }));
    const speeds = new Speeds();
    for (let round = 0; round < 20; round++) speeds.add(places, new Map([["a", 100], ["b", 104]])); // prettier-ignore
    expect(speeds.balance(places)).toBe(places);
    speeds.reset();
    for (let round = 0; round < 20; round++) speeds.add(places, new Map([["a", 100], ["b", 400]])); // prettier-ignore
    expect(speeds.balance(places).map(({ weight }) => weight)).toEqual([1000, 250]);
    expect(weightsOf([8, 2])).toEqual([1000, 250]);
  });
});

describe("bytes of a step", () => {
  it("fall by those of what freezes", () => {
    const before = stepWireBytes(10_000, 4, { encoding: "f32" });
    const after = stepWireBytes(6_000, 4, { encoding: "f32" });
    expect(before.part - after.part).toBe(16_000);
    expect(before.all - after.all).toBe(3 * 2 * 16_000);
    expect(before.part).toBe(partBytes({ exact: 1, values: 10_000 }, { encoding: "f32" }));
    expect(before.part).toBe(HEAD_BYTES + 4 + 40_000);
  });

  it("are those of an exchange divided by its local steps", () => {
    const every = stepWireBytes(10_000, 4, { encoding: "f32" });
    const tenth = stepWireBytes(10_000, 4, { encoding: "f32", localSteps: 10 });
    expect(tenth.part).toBeCloseTo(every.part / 10, 6);
    const shares = resultBytes({ exact: 0, values: 0 }, 4, { encoding: "f32" });
    expect(tenth.result).toBeCloseTo((every.result + shares) / 10, 6);
  });
});

describe("options", () => {
  it.each([
    [{ run: "a b" }, "name of a run"],
    [{ encoding: "f8" }, "f32, bf16, int8"],
    [{ deadline: 0 }, "deadline"],
    [{ localSteps: { every: 0.5 } }, "localSteps.every"],
    [{ localSteps: { every: 2, momentum: 1 } }, "momentum"],
  ])("%o are refused", async (wrong, words) => {
    // What a program in JavaScript may give.
    const options = { servers: "127.0.0.1", run: "a", ...wrong } as Parameters<typeof join>[0];
    const error = await failure(Promise.resolve().then(() => join(options)));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain(words);
  });
});
