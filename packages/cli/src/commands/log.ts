import { formatLink, getRef, history, LazytreeError } from '@lazytree/core';
import type { Action, Context, Output } from '../command.js';
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
  options: [['--remote <name>', 'what was pushed there under that name']],
  async run(context, [name], { remote }) {
    if (remote !== undefined) return logOfRemote(context, name, String(remote));
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

async function logOfRemote(context: Context, name: string, remote: string): Promise<Output> {
  const found = await (await context.remote(remote)).ref(name, context.signal);
  if (!found) throw new LazytreeError('NOT_FOUND', `there is no '${name}' at the remote '${remote}'`);
  const snapshots = found.ref.snapshots.map(({ root, time, ...rest }) => ({
    root: formatLink(root),
    time: new Date(time).toISOString(),
    ...rest,
  }));
  const text = snapshots.map(({ time, root, by, message }) =>
    [time, root, oneLine(by), ...(message === '' ? [] : [oneLine(message)])].join('  '),
  );
  return { data: { name, remote, snapshots }, text: text.map((line) => `${line}\n`).join('') };
}
