import { LazytreeError } from '@lazytree/core';
import { type ConfiguredDriver, configuredDrivers, loadConfigured } from './config.js';
import type { OriginDriver } from './driver.js';

type Load = () => Promise<{ driver: OriginDriver }>;

/** The drivers that lazytree brings along. Each is loaded when it is used: some need large libraries. */
const OWN: Readonly<Record<string, Load>> = {
  tar: () => import('./tar/tar-driver.js'),
  dir: () => import('./dir/dir-driver.js'),
  git: () => import('./git/git-driver.js'),
  github: () => import('./github/github-driver.js'),
};

const NAME = /^([a-z][a-z0-9+.-]{0,63}):/;

/** What knows origins, by the name that their references begin with. */
export interface Drivers {
  /** The name before the colon of a text that may be a reference of a known driver. */
  nameIn(text: string, directories: readonly string[]): Promise<string | undefined>;
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

  return {
    async nameIn(text, directories) {
      const name = NAME.exec(text)?.[1];
      if (name === undefined || name === 'image') return undefined;
      return Object.hasOwn(own, name) || (await configured(name, directories)) ? name : undefined;
    },
    async get(name, directories) {
      if (Object.hasOwn(own, name)) return (await own[name]()).driver;
      const found = await configured(name, directories);
      if (found) return loadConfigured(name, found);
      throw new LazytreeError('USAGE', `nobody knows origins of the kind '${name}:'`, {
        hint: `there are ${Object.keys(own).join(', ')}, and those that a lazytree.config.json names`,
      });
    },
  };
}
