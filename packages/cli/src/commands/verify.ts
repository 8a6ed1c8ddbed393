import { rebuildIndex, type VerifyOptions, type VerifyReport, verifyStore, verifyTree } from '@lazytree/core';
import { homeDirectory, storeDirectory } from '@lazytree/node';
import { type Action, type Context, ExitCode, type Output } from '../command.js';
import { oneLine } from '../one-line.js';
import { openTree } from '../open-tree.js';
import { formatBytes } from '../output.js';

export const command: Action = {
  arguments: '[tree]',
  summary: 'read and hash every block, of the store or of one tree',
  options: [
    ['--repair', 'drop corrupt blocks, so that the next import brings them again; rebuild a broken index'],
  ],
  details: 'Exit code 5 when anything is corrupt or missing, with the paths that need it.',
  collection: 'excludes',
  async run(context, [spec], { repair }) {
    const recovered = repair ? await repairIndex(context) : 0;
    const progress = await context.progress('verify');
    const options: VerifyOptions = {
      repair: repair === true,
      signal: context.signal,
      onProgress: ({ blocks, bytes }) => progress.update({ files: blocks, bytes }),
    };
    try {
      if (spec === undefined) {
        const { store } = await context.home({ create: false });
        return outcome(await verifyStore(store, options), recovered);
      }
      const { store, root } = await openTree(context, spec);
      return outcome(await verifyTree(store, { link: root, name: spec }, options), recovered);
    } finally {
      progress.stop();
    }
  },
};

/** Opens the home; where its index cannot be used, makes it again from the segments first. */
async function repairIndex(context: Context): Promise<number> {
  try {
    await context.home({ create: false });
    return 0;
  } catch (error) {
    if ((error as { code?: string }).code !== 'CORRUPT') throw error;
    context.warn((error as Error).message);
    return (await rebuildIndex(storeDirectory(homeDirectory()))).recovered;
  }
}

function outcome(report: VerifyReport, recovered: number): Output {
  const { blocks, bytes, bad, damage, dropped } = report;
  const lines: string[] = [];
  for (const { cid, problem, reason, uses } of bad) {
    lines.push(`${problem} ${cid}: ${reason}`);
    for (const { tree, path } of uses) lines.push(`  ${tree}/${oneLine(path)}`);
    if (uses.length === 0) lines.push('  in no tree that is known here');
  }
  for (const { file, offset, length } of damage) lines.push(`damage ${file}: ${length} bytes at ${offset}`);
  const sound = bad.length === 0 && damage.length === 0;
  if (recovered > 0) lines.push(`found ${recovered} blocks again`);
  if (dropped > 0) lines.push(`dropped ${dropped} corrupt blocks: import their source again`);
  lines.push(`${sound ? 'sound' : 'not sound'}: ${blocks} blocks, ${formatBytes(bytes)}`);
  return {
    data: { sound, ...report, recovered },
    text: lines.map((line) => `${line}\n`).join(''),
    exitCode: sound ? ExitCode.done : ExitCode.corrupt,
  };
}
