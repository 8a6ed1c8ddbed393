import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeAnswer } from '../../src/cluster/exchange/encode-answer.js';
import { Answer } from '../../src/cluster/exchange/exchange.js';

const bytes = fc.uint8Array({ maxLength: 20_000 });
const plain = ({ records, missing, end }: Answer) => [Array.from(records), Array.from(missing), end];

test('an answer in parts is the message that it would be as a whole, with the records where they were', () => {
  fc.assert(
    fc.property(bytes, bytes, fc.boolean(), (records, missing, end) => {
      const parts = encodeAnswer({ records, missing, end });
      expect(plain(Answer.decode(Buffer.concat(parts)))).toEqual([
        Array.from(records),
        Array.from(missing),
        end,
      ]);
      if (records.length > 0) expect(parts.at(-1)).toBe(records);
    }),
  );
});
