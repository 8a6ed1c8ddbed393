import { resolve } from 'node:path';
import { asDirectory, type ExportOptions, exportTree, formatLink } from '@lazytree/core';
import { isImageSpec } from '@lazytree/node';
import { type Context, ExitCode, type Output } from './command.js';
import { openTree } from './open-tree.js';

export interface ExportRequest extends Pick<ExportOptions, 'existing' | 'survey'> {
  spec: string;
  target: string;
  statCache: string;
}

/** Does what the command `export` says. */
export async function exportSpec(
  context: Context,
  { spec, target, existing, statCache, survey }: ExportRequest,
): Promise<Output> {
  const { signal } = context;
  const [tree] = await Promise.all([openTree(context, spec), survey?.finish({ signal })]);
  const progress = await context.progress('export');
  try {
    const { link } = asDirectory(tree.entry, spec);
    const result = await exportTree(tree.store, link, target, {
      existing,
      ...(isImageSpec(spec) ? {} : { statCache, survey }),
      signal,
      onProgress: (state) => progress.update(state),
    });
    for (const path of result.origins) context.warn(`${path}: an origin that is not resolved, left out`);
    return {
      data: { ...result, root: formatLink(result.root), target: resolve(target) },
      exitCode: result.origins.length > 0 ? ExitCode.partly : ExitCode.done,
    };
  } finally {
    progress.stop();
    await tree.close();
  }
}
