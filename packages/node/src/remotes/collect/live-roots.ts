import { type Link, parseLink } from '@lazytree/core';
import { ROOTS } from '../object-names.js';
import { listRemoteRefs } from '../remote-ref.js';
import { type RootManifest, readManifest } from '../root-manifest.js';
import type { Storage } from '../storage/storage.js';

export interface LiveRoots {
  /** Roots that are to stay, with what is known of where their nodes are. */
  live: Map<Link, RootManifest | undefined>;
  /** Roots that nothing names any more: objects to be deleted, in this version. */
  dead: { name: string; version: string }[];
}

/**
 * Roots in the history of a ref, those that are pinned, and those written within the grace period, whose name may not be
 * there yet.
 */
export async function liveRoots(
  storage: Storage,
  { now, graceMs, signal }: { now: number; graceMs: number; signal: AbortSignal },
): Promise<LiveRoots> {
  const manifests: { manifest: RootManifest; name: string; version: string; modified: number }[] = [];
  for await (const { name, modified } of storage.list(ROOTS, { signal })) {
    const root = parseRoot(name.slice(ROOTS.length));
    const found = root && (await readManifest(storage, root, signal));
    if (found) manifests.push({ ...found, name, modified });
  }
  // Roots come before the names that need them: whoever is named now has been seen.
  const named = new Set<Link>();
  for await (const { ref } of listRemoteRefs(storage, signal)) {
    for (const { root } of ref.snapshots) named.add(root);
  }
  const live = new Map<Link, RootManifest | undefined>([...named].map((root) => [root, undefined]));
  const dead: LiveRoots['dead'] = [];
  for (const { manifest, name, version, modified } of manifests) {
    const { root, pinned } = manifest;
    if (named.has(root) || pinned || modified > now - graceMs) live.set(root, manifest);
    else dead.push({ name, version });
  }
  return { live, dead };
}

function parseRoot(text: string): Link | undefined {
  try {
    return parseLink(text);
  } catch {
    // Somebody else's object, which is left alone.
    return undefined;
  }
}
