import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { readState, writeState } from '../state-file.js';
import { fromHex, toHex } from './object-names.js';
import { decodeRef, encodeRef, type ReadRef } from './remote-ref.js';
import type { NodeRange } from './root-manifest.js';

/** A name at a remote as it was when this machine last pushed or pulled it. */
export interface SeenRef extends ReadRef {
  /** Where the nodes of its root were. */
  nodes: readonly NodeRange[];
}

export interface SeenRefs {
  read(name: string): Promise<SeenRef | undefined>;
  write(seen: SeenRef): Promise<void>;
}

const schema = z.object({
  /** The object, as it was read or written. */
  ref: z.string(),
  version: z.string(),
  nodes: z.array(z.object({ pack: z.string(), offset: z.number(), length: z.number() })),
});

/** @param directory made when something is written */
export function createSeenRefs(directory: string): SeenRefs {
  const file = (name: string) => join(directory, `${name}.json`);
  return {
    async read(name) {
      const parsed = schema.safeParse(await readState(file(name)));
      if (!parsed.success) return undefined;
      const { ref, version, nodes } = parsed.data;
      const bytes = Buffer.from(ref);
      return { ref: decodeRef(name, bytes, file(name)), version, nodes: nodes.flatMap(rangeOf) };
    },
    async write({ ref, version, nodes }) {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const plain = nodes.map(({ pack, ...range }) => ({ pack: toHex(pack), ...range }));
      await writeState(file(ref.name), { ref: encodeRef(ref).toString(), version, nodes: plain });
    },
  };
}

function rangeOf({ pack, ...range }: z.infer<typeof schema>['nodes'][number]): NodeRange[] {
  const id = fromHex(pack);
  return id === undefined ? [] : [{ pack: id, ...range }];
}
