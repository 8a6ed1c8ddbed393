import type { BlockStore } from '../store/block-store.js';
import type { BlockSink } from './block-sink.js';

/** Lets a tree be read for its root alone: content goes nowhere, nodes to `nodes`. */
export function createHashOnlySink(nodes: BlockStore): BlockSink {
  return {
    added: { blocks: 0, bytes: 0 },
    query: async (digests) => new Uint8Array(digests.length / 32),
    async emit() {
      throw new Error('nothing was asked for');
    },
    async putNodes(encoded) {
      for (const node of encoded) await nodes.put(node);
    },
    async flush() {},
  };
}
