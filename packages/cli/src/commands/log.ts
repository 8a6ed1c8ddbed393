import { formatLink, getRef, history, LazytreeError } from '@lazytree/core';
import type { Action } from '../command.js';
import { oneLine } from '../one-line.js';

interface LoggedSnapshot {
  snapshot: string;
  root: string;
  time: string;
  source: string;
  message: string;
  parents: string[];
}

export const command: Action = {
  arguments: '<name>',
  summary: 'list the snapshots of a ref, newest first',
  async run(context, [name]) {
    const { store } = await context.home({ create: false });
    const ref = getRef(store, name);
    if (!ref) throw new LazytreeError('NOT_FOUND', `there is no ref '${name}'`);
    const snapshots: LoggedSnapshot[] = [];
    for await (const { link, snapshot } of history(store, ref)) {
      snapshots.push({
        snapshot: formatLink(link),
        root: formatLink(snapshot.root),
        time: new Date(snapshot.time).toISOString(),
        source: snapshot.source,
        message: snapshot.message,
        parents: snapshot.parents.map(formatLink),
      });
    }
    const text = snapshots.map(({ time, root, source, message }) =>
      [time, root, oneLine(source), ...(message === '' ? [] : [oneLine(message)])].join('  '),
    );
    return { data: { name, snapshots }, text: text.map((line) => `${line}\n`).join('') };
  },
};
