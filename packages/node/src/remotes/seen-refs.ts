import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { formatLink, type Link, parseLink } from '@lazytree/core';
import * as z from 'zod/mini';
import { readState, writeState } from '../state-file.js';
import { fromHex, toHex } from './object-names.js';
import type { NodeRange } from './root-manifest.js';

/** What a name at a remote stood for when this machine last pushed or pulled it. */
export interface SeenRef {
  root: Link;
  /** Where its nodes were. */
  nodes: readonly NodeRange[];
}

export interface SeenRefs {
  read(name: string): Promise<SeenRef | undefined>;
  write(name: string, seen: SeenRef): Promise<void>;
}

const schema = z.object({
  root: z.string(),
  nodes: z.array(z.object({ pack: z.string(), offset: z.number(), length: z.number() })),
});

/** @param directory made when something is written */
export function createSeenRefs(directory: string): SeenRefs {
  const file = (name: string) => join(directory, `${name}.json`);
  return {
    async read(name) {
      const parsed = schema.safeParse(await readState(file(name)));
      if (!parsed.success) return undefined;
      const { root, nodes } = parsed.data;
      return { root: parseLink(root), nodes: nodes.flatMap(rangeOf) };
    },
    async write(name, { root, nodes }) {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const plain = nodes.map(({ pack, ...range }) => ({ pack: toHex(pack), ...range }));
      await writeState(file(name), { root: formatLink(root), nodes: plain });
    },
  };
}

function rangeOf({ pack, ...range }: z.infer<typeof schema>['nodes'][number]): NodeRange[] {
  const id = fromHex(pack);
  return id === undefined ? [] : [{ pack: id, ...range }];
}
