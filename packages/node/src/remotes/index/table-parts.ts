import { encodeTable, type FramePlace, MAX_TABLE_BLOCKS, type TableContent } from '@lazytree/core';

/** What a table says, frame by frame. */
export interface FrameEntries {
  frame: FramePlace;
  digests: string[];
  slots: number[];
}

export function framesOf({ frames, digests, frameOf, slotOf }: TableContent): FrameEntries[] {
  const entries = frames.map((frame): FrameEntries => ({ frame, digests: [], slots: [] }));
  digests.forEach((digest, i) => {
    const { digests: own, slots } = entries[frameOf[i]];
    own.push(digest);
    slots.push(slotOf[i]);
  });
  return entries;
}

/** Tables of frames, as few as can be. A block that comes twice is where it comes first. */
export function* tablesOf(entries: Iterable<FrameEntries>): Generator<Buffer> {
  const met = new Set<string>();
  let frames: FramePlace[] = [];
  let digests: string[] = [];
  let frameOf: number[] = [];
  let slotOf: number[] = [];
  const finish = () => encodeTable({ frames, digests, frameOf, slotOf });
  for (const { frame, digests: own, slots } of entries) {
    if (digests.length + own.length > MAX_TABLE_BLOCKS) {
      yield finish();
      [frames, digests, frameOf, slotOf] = [[], [], [], []];
    }
    const before = digests.length;
    own.forEach((digest, i) => {
      if (met.has(digest)) return;
      met.add(digest);
      digests.push(digest);
      frameOf.push(frames.length);
      slotOf.push(slots[i]);
    });
    if (digests.length > before) frames.push(frame);
  }
  if (digests.length > 0) yield finish();
}
