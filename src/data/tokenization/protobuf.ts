/** A field of a message of Protocol Buffers: a number (of a varint or of 32 bits) or bytes. */
export interface Field {
  readonly number: number;
  readonly value: number | Uint8Array;
}

/** What is wrong with a message. */
export class MessageError extends Error {}

/**
 * The fields of a message in Protocol Buffers' wire format. Numbers of 64 bits are rounded.
 * @throws MessageError for bytes that are not such a message.
 */
export function* readFields(bytes: Uint8Array): Generator<Field> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) throw new MessageError("it ends within a number");
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new MessageError("it has a number of more than ten bytes");
  };
  const skip = (length: number): number => {
    const start = at;
    at += length;
    if (at > bytes.length) throw new MessageError("it ends within a field");
    return start;
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0:
        yield { number, value: varint() };
        break;
      case 1:
        yield { number, value: view.getFloat64(skip(8), true) };
        break;
      case 2: {
        const start = skip(varint());
        yield { number, value: bytes.subarray(start, at) };
        break;
      }
      case 5:
        yield { number, value: view.getFloat32(skip(4), true) };
        break;
      default:
        throw new MessageError(`it has a field of the unknown kind ${tag % 8}`);
    }
  }
}
