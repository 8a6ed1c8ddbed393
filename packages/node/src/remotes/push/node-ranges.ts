import type { FramePlace } from '@lazytree/core';
import type { NodeRange } from '../root-manifest.js';

/** Bytes between two frames of nodes that are read with them. */
const GAP = 64 << 10;
/** Bytes of a range, so that it is one request of a reasonable size. */
const RANGE_BYTES = 8 << 20;

/** The parts of packs that hold some frames, each frame once. */
export function nodeRanges(frames: Iterable<FramePlace>): NodeRange[] {
  const sorted = [...frames].sort((a, b) =>
    a.pack === b.pack ? a.offset - b.offset : a.pack < b.pack ? -1 : 1,
  );
  const ranges: NodeRange[] = [];
  for (const { pack, offset, length } of sorted) {
    const last = ranges[ranges.length - 1];
    const end = last ? last.offset + last.length : 0;
    const joins = last?.pack === pack && offset - end <= GAP && offset + length - last.offset <= RANGE_BYTES;
    if (joins) last.length = Math.max(end, offset + length) - last.offset;
    else ranges.push({ pack, offset, length });
  }
  return ranges;
}
