import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createFrameReader, encodeFrames, Frame, MAX_PAYLOAD } from '../dist/daemon/frames.js';

test('frames come out as they went in, however they are cut on the way', () => {
  const kinds = fc.constantFrom(...Object.values(Frame));
  const payload = fc.uint8Array({ maxLength: 300 });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(kinds, payload)),
      fc.array(fc.integer({ min: 1, max: 200 })),
      (frames, cuts) => {
        const bytes = Buffer.concat(frames.flatMap(([kind, content]) => [...encodeFrames(kind, content)]));
        const read = createFrameReader();
        const found: [number, string][] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = at + (cuts[i] ?? bytes.length);
          for (const frame of read(bytes.subarray(at, end)))
            found.push([frame.kind, frame.payload.toString('hex')]);
          at = end;
        }
        expect(found).toEqual(frames.map(([kind, content]) => [kind, Buffer.from(content).toString('hex')]));
      },
    ),
  );
});

test('a long payload takes several frames, none longer than a reader is ready for', () => {
  const payload = Buffer.alloc(2 * MAX_PAYLOAD + 5, 7);
  const frames = [...createFrameReader()(Buffer.concat([...encodeFrames(Frame.stdout, payload)]))];
  expect(frames.map((frame) => frame.payload.length)).toEqual([MAX_PAYLOAD, MAX_PAYLOAD, 5]);
  expect(Buffer.concat(frames.map((frame) => frame.payload)).equals(payload)).toBe(true);
});

test('a frame that says that it is longer is an error before it has come', () => {
  const header = Buffer.alloc(5);
  header.writeUInt32LE(MAX_PAYLOAD + 1, 1);
  expect(() => [...createFrameReader()(header)]).toThrow(/a frame of/);
});
