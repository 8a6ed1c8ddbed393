import { relative, resolve } from 'node:path/posix';
import normalizeBin from 'npm-normalize-package-bin';
import { ownerOf } from './lock-graph.js';
import type { LockedPackage } from './lockfile.js';

export interface BinLink {
  /** Its location, such as `node_modules/.bin/tsc`. */
  location: string;
  target: string;
}

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
  const claims: Claim[] = [];
  for (const locked of packages) {
    if (ownerOf(locked.location) === undefined) continue;
    const described = locked.link ? targetOf(locked) : locked;
    if (!described?.raw.bin) continue;
    const { location, installedName } = locked;
    const modules = location.slice(0, location.length - installedName.length - 1);
    const { bin = {} } = normalizeBin({ name: described.name, bin: structuredClone(described.raw.bin) });
    for (const [name, path] of Object.entries(bin)) {
      const target = relative(`/${modules}/.bin`, resolve(`/${location}`, path));
      claims.push({ at: `${modules}/.bin/${name}`, name, target, locked });
    }
  }
  const found = new Map(claims.map(({ at, target }) => [at, { location: at, target }]));
  const unlinked = new Map<string, string[]>();
  if (found.size < claims.length) {
    const taken = new Set<string>();
    for (const { at, name, target, locked } of inTurn(claims)) {
      if (!taken.has(at)) found.set(at, { location: at, target });
      else unlinked.set(locked.location, [...(unlinked.get(locked.location) ?? []), name]);
      taken.add(at);
    }
  }
  return { links: [...found.values()], unlinked };
}

/** A command that a package would have linked. */
interface Claim {
  at: string;
  name: string;
  target: string;
  locked: LockedPackage;
}

/** As npm links them: those closer to the top first, and what links point to last. To compare as it does takes a while. */
function inTurn(claims: Claim[]): Claim[] {
  const collator = new Intl.Collator('en');
  return claims.toSorted(
    ({ locked: a }, { locked: b }) =>
      Number(a.link) - Number(b.link) ||
      depthOf(a.location) - depthOf(b.location) ||
      collator.compare(a.location, b.location),
  );
}

function depthOf(location: string): number {
  return location.split('node_modules/').length;
}
