import type { FileHandle } from 'node:fs/promises';
import { MAX_BLOCK_BYTES } from '../format/limits.js';
import { linkDigest } from '../format/link.js';
import { RECORD_HEADER, type RecordHeader, readRecordHeader, recordProblem } from './record.js';
import { SEGMENT_HEADER } from './segments.js';

export type Found =
  | {
      kind: 'record';
      digest: string;
      offset: number;
      header: RecordHeader;
      /** Header and payload; valid until the next step of the scan. */
      record: Buffer;
    }
  | { kind: 'damage'; offset: number; length: number };

const WINDOW = 4 << 20;
const LARGEST = RECORD_HEADER + MAX_BLOCK_BYTES;

/**
 * The records of a segment, a pack or an image's worth of them, in order, with checksums verified. Where a
 * record is damaged the scan goes on with the next one that is whole.
 */
export async function* scanSegment(
  handle: FileHandle,
  length: number,
  start = SEGMENT_HEADER,
): AsyncGenerator<Found> {
  const window = Buffer.allocUnsafeSlow(WINDOW);
  let base = start;
  let filled = 0;
  let at = 0;
  let damagedFrom = -1;

  async function refill(): Promise<void> {
    window.copyWithin(0, at, filled);
    base += at;
    filled -= at;
    at = 0;
    while (filled < window.length && base + filled < length) {
      const want = Math.min(window.length - filled, length - base - filled);
      const { bytesRead } = await handle.read(window, filled, want, base + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
  }

  for (;;) {
    if (filled - at < LARGEST) await refill();
    const view = window.subarray(0, filled);
    const header = at < filled ? readRecordHeader(view, at) : undefined;
    const whole = header !== undefined && recordProblem(view, at, header) === undefined;
    if (damagedFrom >= 0 && (whole || at >= filled)) {
      yield { kind: 'damage', offset: damagedFrom, length: base + at - damagedFrom };
      damagedFrom = -1;
    }
    if (at >= filled) {
      if (base + at < length) yield { kind: 'damage', offset: base + at, length: length - base - at };
      return;
    }
    if (header && whole) {
      const end = at + RECORD_HEADER + header.stored;
      yield {
        kind: 'record',
        digest: linkDigest(header.link),
        offset: base + at,
        header,
        record: view.subarray(at, end),
      };
      at = end;
    } else {
      if (damagedFrom < 0) damagedFrom = base + at;
      const next = window.subarray(0, filled).indexOf('LZR1', at + 1, 'latin1');
      at = next < 0 ? Math.max(at + 1, filled - 3) : next;
    }
  }
}
