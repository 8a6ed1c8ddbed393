import { relative, resolve } from 'node:path/posix';
import normalizeBin from 'npm-normalize-package-bin';
import { ownerOf } from './lock-graph.js';
import type { LockedPackage } from './lockfile.js';

export interface BinLink {
  /** Its location, such as `node_modules/.bin/tsc`. */
  location: string;
  target: string;
}

const collator = new Intl.Collator('en');

export interface BinLinks {
  links: BinLink[];
  /** Commands of packages that have lost their name to another package, by location. */
  unlinked: ReadonlyMap<string, readonly string[]>;
}

/**
 * The links to commands in the `.bin` of each node_modules. Of several packages with a command of one name, the one that
 * npm takes.
 *
 * @param targetOf what a link among the packages points to
 */
export function binLinks(
  packages: readonly LockedPackage[],
  targetOf: (link: LockedPackage) => LockedPackage | undefined,
): BinLinks {
  const found = new Map<string, BinLink>();
  const unlinked = new Map<string, string[]>();
  const withCommands = packages.filter(({ location }) => ownerOf(location) !== undefined);
  const inTurn = [
    ...withCommands.filter(({ link }) => !link).sort(byPlace),
    // What they point to is built last.
    ...withCommands.filter(({ link }) => link).sort(byPlace),
  ];
  for (const locked of inTurn) {
    const described = locked.link ? targetOf(locked) : locked;
    if (!described?.raw.bin) continue;
    const { location, installedName } = locked;
    const modules = location.slice(0, location.length - installedName.length - 1);
    const { bin = {} } = normalizeBin({ name: described.name, bin: structuredClone(described.raw.bin) });
    for (const [name, path] of Object.entries(bin)) {
      const at = `${modules}/.bin/${name}`;
      if (found.has(at)) {
        unlinked.set(location, [...(unlinked.get(location) ?? []), name]);
        continue;
      }
      const target = relative(`/${modules}/.bin`, resolve(`/${location}`, path));
      found.set(at, { location: at, target });
    }
  }
  return { links: [...found.values()], unlinked };
}

function byPlace(a: LockedPackage, b: LockedPackage): number {
  return depthOf(a.location) - depthOf(b.location) || collator.compare(a.location, b.location);
}

function depthOf(location: string): number {
  return location.split('node_modules/').length;
}
