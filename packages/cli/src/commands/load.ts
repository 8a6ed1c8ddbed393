import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  checkRefName,
  formatLink,
  loadCar,
  loadImage,
  openImage,
  readCarRoots,
  recordImport,
  setRef,
} from '@lazytree/core';
import { homeDirectory, storeDirectory } from '@lazytree/node';
import type { Action } from '../command.js';

export const command: Action = {
  arguments: '<file>',
  summary: 'store what an image or a CAR holds, and print its root',
  options: [['--name <ref>', 'point a ref to the root, and record a snapshot']],
  async run(context, [path], { name }) {
    const file = await context.file(path);
    if (typeof name === 'string') checkRefName(name);
    if (!existsSync(storeDirectory(homeDirectory()))) await assertReadable(file);
    const { store } = await context.home({ create: true });
    const progress = await context.progress('load');
    try {
      const options = {
        signal: context.signal,
        onProgress: ({ blocks, bytes }: { blocks: number; bytes: number }) =>
          progress.update({ files: blocks, bytes }),
      };
      const result = await (file.endsWith('.car') ? loadCar : loadImage)(store, file, options);
      const source = resolve(file);
      for (const root of result.roots) await recordImport(store, root, source);
      const [root] = result.roots;
      if (typeof name === 'string') await setRef(store, { name, root, source });
      const roots = result.roots.map(formatLink);
      return { data: { ...result, root: roots[0], roots }, text: roots.map((cid) => `${cid}\n`).join('') };
    } finally {
      progress.stop();
    }
  },
};

/** A file that is not there, or is no image, must not leave a new home behind. */
async function assertReadable(file: string): Promise<void> {
  if (file.endsWith('.car')) await readCarRoots(file);
  else await (await openImage(file)).close();
}
