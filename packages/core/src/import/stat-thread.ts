import { lstatSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { toFsPath } from '../format/name.js';
import { IGNORE_FILE } from './ignore-file.js';
import { decodeDirectory, isSameDirectory, isUnchanged, type RecordPlace } from './stat-cache.js';
import { Probe, type ProbeData, probeIndex } from './stat-prober.js';

const { root, cache, trusted, rootRecord, states: shared }: ProbeData = workerData;
const records = Buffer.from(cache);
const states = new Uint8Array(shared);

/**
 * Looks at a directory, and below it from the last entry to the first. Returns whether all was seen unchanged. A
 * directory with an ignore file never is: only the import reads rules.
 */
function probe(place: RecordPlace, path: string): boolean {
  if (Atomics.load(states, states.length - 1) === 1) return false;
  const directory = decodeDirectory(records.subarray(place.offset, place.offset + place.length), trusted);
  if (!directory) return false;
  const index = probeIndex(place);
  const mine = Atomics.compareExchange(states, index, Probe.untouched, Probe.probing) === Probe.untouched;
  const mayBeSame = mine && directory.entries.every(({ name }) => name !== IGNORE_FILE);
  let same = mayBeSame && isSameDirectory(directory, lstatSync(toFsPath(path), { throwIfNoEntry: false }));
  for (let i = 0; same && i < directory.entries.length; i++) {
    const entry = directory.entries[i];
    if (entry.kind === 'directory') continue;
    const stat = lstatSync(toFsPath(`${path}/${entry.name}`), { throwIfNoEntry: false });
    same = stat !== undefined && isUnchanged(entry, stat);
  }
  for (const entry of directory.entries.toReversed()) {
    if (entry.kind === 'directory') same = probe(entry.record, `${path}/${entry.name}`) && same;
  }
  if (mine) Atomics.store(states, index, same ? Probe.unchanged : Probe.changed);
  return same;
}

probe(rootRecord, root);
