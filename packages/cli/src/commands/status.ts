import { listImports, listPins, listRefs } from '@lazytree/core';
import type { Action } from '../command.js';
import { formatBytes, table } from '../output.js';

export const command: Action = {
  arguments: '',
  summary: 'show what the store holds',
  async run(context) {
    const { directory, store } = await context.home({ create: false });
    let blocks = 0;
    let stored = 0;
    let raw = 0;
    for await (const [, location] of store.index.entries()) {
      context.signal.throwIfAborted();
      blocks += 1;
      stored += location.stored;
      raw += location.raw;
    }
    const lengths = store.segments.lengths();
    const disk = [...lengths.values()].reduce((sum, length) => sum + length, 0);
    const data = {
      home: directory,
      blocks,
      rawBytes: raw,
      storedBytes: stored,
      segments: lengths.size,
      segmentBytes: disk,
      refs: (await listRefs(store)).length,
      pins: (await listPins(store)).length,
      imports: (await listImports(store)).length,
    };
    const text = table([
      ['home', directory],
      ['blocks', `${blocks} (${formatBytes(raw)}, stored as ${formatBytes(stored)})`],
      ['segments', `${lengths.size} (${formatBytes(disk)})`],
      ['refs', String(data.refs)],
      ['pins', String(data.pins)],
      ['imports', String(data.imports)],
    ]);
    return { data, text };
  },
};
