import type { Action } from '../command.js';
import { openMountable } from '../mountable.js';
import { formatBytes } from '../output.js';

export const command: Action = {
  arguments: '<tree>',
  summary: 'fetch all of a tree that is not in the store yet',
  where: 'daemon',
  collection: 'excludes',
  async run(context, [spec]) {
    const { root, image } = await openMountable(context, spec);
    const progress = await context.progress('prefetch');
    try {
      const { files, bytes } = await context.host().prefetch(root, {
        image,
        caller: context.originCaller(),
        signal: context.signal,
        onProgress: (state) => progress.update(state),
      });
      return { data: { files, bytes }, text: `${files} files, ${formatBytes(bytes)}, are in the store\n` };
    } finally {
      progress.stop();
    }
  },
};
