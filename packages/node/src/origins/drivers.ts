import { LazytreeError } from '@lazytree/core';
import { type ConfiguredDriver, configuredDrivers, loadConfigured } from './config.js';
import type { OriginDriver } from './driver.js';

type Load = () => Promise<{ driver: OriginDriver }>;

/** The drivers that lazytree brings along. Each is loaded when it is used: some need large libraries. */
const OWN: Readonly<Record<string, Load>> = {
  tar: () => import('./tar/tar-driver.js'),
  dir: () => import('./dir/dir-driver.js'),
  npm: () => import('./npm/npm-driver.js'),
  'npm-lock': () => import('./npm/npm-lock-driver.js'),
  unpkg: () => import('./npm/unpkg-driver.js'),
  git: () => import('./git/git-driver.js'),
  github: () => import('./github/github-driver.js'),
};

/** What knows origins, by the name that their references begin with. */
export interface Drivers {
  /**
   * @param directories whose configuration may name drivers, first come first served; lazytree's own come before
   * @throws LazytreeError USAGE for a name that nobody knows, NOT_FOUND for a driver that cannot be loaded
   */
  get(name: string, directories: readonly string[]): Promise<OriginDriver>;
}

export function createDrivers(own: Readonly<Record<string, Load>> = OWN): Drivers {
  async function configured(
    name: string,
    directories: readonly string[],
  ): Promise<ConfiguredDriver | undefined> {
    for (const directory of new Set(directories)) {
      const found = (await configuredDrivers(directory)).get(name);
      if (found) return found;
    }
    return undefined;
  }

  const loaded = new Map<string, OriginDriver>();

  return {
    async get(name, directories) {
      const known = loaded.get(name);
      if (known) return known;
      if (Object.hasOwn(own, name)) {
        const { driver } = await own[name]();
        loaded.set(name, driver);
        return driver;
      }
      const found = await configured(name, directories);
      if (found) return loadConfigured(name, found);
      throw new LazytreeError('USAGE', `nobody knows origins of the kind '${name}:'`, {
        hint: `there are ${Object.keys(own).join(', ')}, and those that a lazytree.config.json names`,
      });
    },
  };
}
