import { asDirectory, formatLink, LazytreeError, saveCar, saveImage } from '@lazytree/core';
import type { Action } from '../command.js';
import { openWholeTree } from '../open-tree.js';

export const command: Action = {
  arguments: '<tree> <file>',
  summary: 'write a tree to one file: an image, or a CAR when the name ends in .car',
  options: [['--compression <kind>', 'of an image: snappy or zstd']],
  async run(context, [spec, file], { compression = 'snappy' }) {
    if (compression !== 'snappy' && compression !== 'zstd') {
      throw new LazytreeError('USAGE', `--compression is snappy or zstd, not '${compression}'`);
    }
    const target = await context.file(file);
    const tree = await openWholeTree(context, spec);
    const progress = await context.progress('save');
    try {
      const { link } = asDirectory(tree.entry, spec);
      const options = {
        signal: context.signal,
        onProgress: ({ blocks, bytes }: { blocks: number; bytes: number }) =>
          progress.update({ files: blocks, bytes }),
      };
      const result = await context.makeFiles(() =>
        file.endsWith('.car')
          ? saveCar(tree.store, link, target, options)
          : saveImage(tree.store, link, target, { ...options, compression }),
      );
      return { data: { ...result, root: formatLink(link), file } };
    } finally {
      progress.stop();
      await tree.close();
    }
  },
};
