import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createAssembler } from '../../src/cluster/message-stream.js';

const LIMIT = 1000;

function frame(message: Uint8Array): Buffer {
  const { length } = message;
  const prefix = length < 128 ? [length] : [(length & 127) | 128, length >> 7];
  return Buffer.concat([Buffer.from(prefix), message]);
}

/** Cuts bytes at some places. */
function parts(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, i) => bytes.subarray(from, places[i] ?? bytes.length));
}

describe('messages from a stream of bytes', () => {
  test('come out as they went in, wherever the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: LIMIT }), { maxLength: 8 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        (messages, cuts) => {
          const assembler = createAssembler(LIMIT);
          const got = parts(Buffer.concat(messages.map(frame)), cuts).flatMap((part) => assembler.add(part));
          expect(got.map((message) => message.toString('hex'))).toEqual(
            messages.map((message) => Buffer.from(message).toString('hex')),
          );
        },
      ),
    );
  });

  test.each([
    ['longer than the limit', [0xe9, 0x07], /1001 bytes; the limit is 1000/],
    ['a length of four bytes', [0xff, 0xff, 0xff, 0xff], /a length that is none/],
    ['a length with a byte to spare', [0x85, 0x00], /not minimal/],
  ])('%s is refused', (_, bytes, problem) => {
    expect(() => createAssembler(LIMIT).add(Uint8Array.from(bytes))).toThrow(problem);
  });

  test('whatever comes, it is messages within the limit, or an error', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 }), (stream) => {
        const assembler = createAssembler(LIMIT);
        try {
          for (const part of stream) {
            for (const message of assembler.add(part)) expect(message.length).toBeLessThanOrEqual(LIMIT);
          }
        } catch (error) {
          expect((error as Error).message).toMatch(/length|limit/);
        }
      }),
    );
  });
});
