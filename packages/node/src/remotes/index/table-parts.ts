import { encodeTable, type FramePlace, type Link, MAX_TABLE_BLOCKS, type TableContent } from '@lazytree/core';

/** What a table says, frame by frame. */
export interface FrameEntries {
  frame: FramePlace;
  links: Link[];
  slots: number[];
}

export function framesOf({ frames, links, frameOf, slotOf }: TableContent): FrameEntries[] {
  const entries = frames.map((frame): FrameEntries => ({ frame, links: [], slots: [] }));
  links.forEach((link, i) => {
    const { links: own, slots } = entries[frameOf[i]];
    own.push(link);
    slots.push(slotOf[i]);
  });
  return entries;
}

/** Tables of frames, as few as can be. A block that comes twice is where it comes first. */
export function* tablesOf(entries: Iterable<FrameEntries>): Generator<Buffer> {
  const met = new Set<Link>();
  let frames: FramePlace[] = [];
  let links: Link[] = [];
  let frameOf: number[] = [];
  let slotOf: number[] = [];
  const finish = () => encodeTable({ frames, links, frameOf, slotOf });
  for (const { frame, links: own, slots } of entries) {
    if (links.length + own.length > MAX_TABLE_BLOCKS) {
      yield finish();
      [frames, links, frameOf, slotOf] = [[], [], [], []];
    }
    const before = links.length;
    own.forEach((link, i) => {
      if (met.has(link)) return;
      met.add(link);
      links.push(link);
      frameOf.push(frames.length);
      slotOf.push(slots[i]);
    });
    if (links.length > before) frames.push(frame);
  }
  if (links.length > 0) yield finish();
}
