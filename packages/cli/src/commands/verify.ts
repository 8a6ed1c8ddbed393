import {
  isIndexDamaged,
  LazytreeError,
  parseLink,
  rebuildIndex,
  type VerifyOptions,
  type VerifyReport,
  verifyStore,
  verifyTree,
} from '@lazytree/core';
import { homeDirectory, storeDirectory } from '@lazytree/node';
import { type Action, type Context, ExitCode, type Output } from '../command.js';
import { oneLine } from '../one-line.js';
import { openTree } from '../open-tree.js';
import { formatBytes } from '../output.js';

export const command: Action = {
  arguments: '[tree]',
  summary: 'read and hash every block, of the store or of one tree',
  options: [
    [
      '--repair',
      'drop corrupt blocks and fetch them from peers and remotes, or let the next import bring them; rebuild a broken index',
    ],
  ],
  details: 'Exit code 5 when anything is corrupt or missing, with the paths that need it.',
  collection: 'excludes',
  async run(context, [spec], { repair }) {
    const rebuilt = repair ? await repairIndex(context) : 0;
    const progress = await context.progress('verify');
    const options: VerifyOptions = {
      repair: repair === true,
      signal: context.signal,
      onProgress: ({ blocks, bytes }) => progress.update({ files: blocks, bytes }),
    };
    try {
      const report = await verify(context, spec, options);
      const restored = repair ? await restore(context, report) : 0;
      return outcome(report, { rebuilt, restored });
    } finally {
      progress.stop();
    }
  },
};

/** Of what is here: no content is fetched to be looked at. */
async function verify(
  context: Context,
  spec: string | undefined,
  options: VerifyOptions,
): Promise<VerifyReport> {
  if (spec === undefined) return verifyStore((await context.home({ create: false })).store, options);
  const { store, root, image } = await openTree(context, spec);
  const here = image === undefined ? (await context.home({ create: false })).store : store;
  return verifyTree(here, { link: root, name: spec }, options);
}

/** Fetches from others what is in use and not here any more. */
async function restore(context: Context, { bad }: VerifyReport): Promise<number> {
  const network = await context.network();
  if (!network) return 0;
  const { signal } = context;
  await network.remotes?.attach().catch((error: Error) => context.warn(error.message));
  let restored = 0;
  for (const { cid, uses } of bad) {
    if (uses.length === 0) continue;
    try {
      await network.fetch.get(parseLink(cid), { signal });
      restored += 1;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof LazytreeError)) throw error;
      context.warn((error as Error).message);
    }
  }
  return restored;
}

/** Opens the home; where its index cannot be used, or is damaged, makes it again from the segments first. */
async function repairIndex(context: Context): Promise<number> {
  const store = storeDirectory(homeDirectory());
  try {
    // A daemon has it open.
    if (!context.hasHost && (await isIndexDamaged(store))) {
      context.warn(`tables of the index ${store}/index are damaged`);
      return (await rebuildIndex(store)).recovered;
    }
    await context.home({ create: false });
    return 0;
  } catch (error) {
    if ((error as { code?: string }).code !== 'CORRUPT') throw error;
    context.warn((error as Error).message);
    return (await rebuildIndex(store)).recovered;
  }
}

function outcome(report: VerifyReport, { rebuilt, restored }: { rebuilt: number; restored: number }): Output {
  const { blocks, bytes, bad, damage, dropped } = report;
  const recovered = rebuilt + report.recovered;
  const lines: string[] = [];
  for (const { cid, problem, reason, uses } of bad) {
    lines.push(`${problem} ${cid}: ${reason}`);
    for (const { tree, path } of uses) lines.push(`  ${tree}/${oneLine(path)}`);
    if (uses.length === 0) lines.push('  in no tree that is known here');
  }
  for (const problem of report.lost) lines.push(`lost: ${oneLine(problem)}`);
  for (const { file, offset, length } of damage) lines.push(`damage ${file}: ${length} bytes at ${offset}`);
  const sound = bad.length === 0 && damage.length === 0 && report.lost.length === 0;
  if (recovered > 0) lines.push(`found ${recovered} blocks again`);
  if (restored > 0) lines.push(`fetched ${restored} blocks from others`);
  if (dropped > restored)
    lines.push(`dropped ${dropped - restored} corrupt blocks: import their source again`);
  lines.push(`${sound ? 'sound' : 'not sound'}: ${blocks} blocks, ${formatBytes(bytes)}`);
  return {
    data: { sound, ...report, recovered, restored },
    text: lines.map((line) => `${line}\n`).join(''),
    exitCode: sound ? ExitCode.done : ExitCode.corrupt,
  };
}
