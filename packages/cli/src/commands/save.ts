import { asDirectory, type BlockSource, formatLink, LazytreeError, saveCar, saveImage } from '@lazytree/core';
import type { Action } from '../command.js';
import { openTree, whileArriving } from '../open-tree.js';

export const command: Action = {
  arguments: '<tree> <file>',
  summary: 'write a tree to one file: an image, or a CAR when the name ends in .car',
  options: [['--compression <kind>', 'of an image: snappy or zstd']],
  async run(context, [spec, file], { compression = 'snappy' }) {
    if (compression !== 'snappy' && compression !== 'zstd') {
      throw new LazytreeError('USAGE', `--compression is snappy or zstd, not '${compression}'`);
    }
    const target = await context.file(file);
    const tree = await openTree(context, spec);
    const progress = await context.progress('save');
    try {
      const { link } = asDirectory(tree.entry, spec);
      const options = {
        signal: context.signal,
        onProgress: ({ blocks, bytes }: { blocks: number; bytes: number }) =>
          progress.update({ files: blocks, bytes }),
      };
      const write = (store: BlockSource) =>
        file.endsWith('.car')
          ? saveCar(store, link, target, options)
          : saveImage(store, link, target, { ...options, compression });
      const result = await context.makeFiles(() => whileArriving(context, { spec, tree, all: true }, write));
      return { data: { ...result, root: formatLink(link), file } };
    } finally {
      progress.stop();
      await tree.close();
    }
  },
};
