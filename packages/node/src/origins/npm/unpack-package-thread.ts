import { createRecordedTree, type DirectoryEntry, plainError, serveJobs } from '@lazytree/core';
import type { Unlinked } from './npm-reference.js';
import { type PackageManifest, unpackPackage } from './unpack-package.js';

export interface UnpackJob {
  tarball: Uint8Array;
  what: string;
  unlinked: Unlinked | undefined;
}

export interface UnpackedPackage {
  entry: DirectoryEntry;
  /** Of the blocks below it. */
  records: Uint8Array;
  scripts: PackageManifest['scripts'];
}

const NEVER = new AbortController().signal;

/** Unpacks a small tarball. Resolves to nothing when it is larger unpacked than is done at once. */
serveJobs<UnpackJob, UnpackedPackage | undefined>(({ tarball, what, unlinked }) =>
  plainError(async () => {
    const tree = createRecordedTree(NEVER);
    const content = Buffer.from(tarball.buffer, tarball.byteOffset, tarball.length);
    const manifest = await unpackPackage(tree, content, { what, signal: NEVER, unlinked, atOnce: true });
    if (!manifest) return undefined;
    return { entry: await tree.finish(), records: tree.records(), scripts: manifest.scripts };
  }),
);
