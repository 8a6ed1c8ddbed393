import { formatLink } from '@lazytree/core';
import type { Reason, Why } from '@lazytree/node/origins';
import type { Action } from '../command.js';
import { pathJson } from '../entry-json.js';
import { oneLine } from '../one-line.js';
import { openTree } from '../open-tree.js';
import { formatBytes } from '../output.js';

export const command: Action = {
  arguments: '<tree/path>',
  summary: 'say where a part of a tree has come from, when, and what it has cost',
  details: 'Fetches nothing. What was imported, resolved from an origin or got from a peer is known here.',
  async run(context, [spec]) {
    const tree = await openTree(context, spec, { rootOnly: true });
    const { explainPath, withOrigins } = await import('@lazytree/node/origins');
    const { store } = await context.home({ create: false });
    const caller = context.originCaller();
    const environment = { ...caller.environment, LAZYTREE_OFFLINE: '1' };
    const source = withOrigins(tree.store, await context.origins(), { caller: { ...caller, environment } });
    try {
      const why = await explainPath(source, store, tree, { signal: context.signal });
      return { data: data(tree.path, why), text: text(tree.path, why) };
    } finally {
      await tree.close();
    }
  },
};

function data(path: string, { entry, reasons, unresolved }: Why): unknown {
  return {
    ...pathJson(path, entry),
    unresolved: unresolved ? `${unresolved.entry.driver}:${unresolved.entry.reference}` : null,
    reasons: reasons.map(({ path: where, link, how }) => ({
      path: where,
      cid: formatLink(link),
      ...how,
      time: new Date(how.time).toISOString(),
    })),
  };
}

function text(path: string, { reasons, unresolved }: Why): string {
  const lines = reasons.map(describe);
  if (unresolved) {
    const { driver, reference, integrity } = unresolved.entry;
    const which = integrity === undefined ? '' : ` (${integrity})`;
    lines.unshift(`${unresolved.path || '/'}: not fetched yet, it is ${driver}:${reference}${which}`);
  }
  if (lines.length === 0) lines.push(`${path || '/'}: nothing is known of how it has come here`);
  return `${lines.map(oneLine).join('\n')}\n`;
}

function describe({ path, how }: Reason): string {
  const when = new Date(how.time).toISOString();
  const what = `${path || '/'}:`;
  if (how.from === 'import') return `${what} imported from ${how.reference}, ${when}`;
  const which = how.integrity === '' ? '' : ` (${how.integrity})`;
  const notes = how.notes.map((note) => `; ${note}`).join('');
  if (how.from === 'peer') return `${what} ${how.reference}${which} from ${how.peer}, ${when}${notes}`;
  const requests = `${how.requests} ${how.requests === 1 ? 'request' : 'requests'}`;
  const cost = how.requests === 0 ? '' : `, ${formatBytes(how.bytes)} in ${requests}`;
  return `${what} ${how.reference}${which} from its origin, ${when}${cost}${notes}`;
}
