import { walkTree } from '@lazytree/core';
import { collect, exportDescription } from '../../../core/test/helpers.ts';
import type { OriginContent, OriginContext } from '../../dist/origins/driver.js';
import { driver } from '../../dist/origins/git/git-driver.js';
import { type ContextOptions, driverContext, type TestContext } from './driver-context.ts';

/** With what git needs to run, and nothing of whoever runs the tests. */
export const GIT_ENVIRONMENT = { PATH: process.env.PATH as string, HOME: '/nonexistent' };

export function newContext({ environment, ...options }: ContextOptions = {}): Promise<TestContext> {
  return driverContext({ ...options, environment: { ...GIT_ENVIRONMENT, ...environment } });
}

/** From a text to what it stands for, as the engine does it. */
export async function fetchGit(text: string, context: OriginContext): Promise<OriginContent> {
  const reference = driver.parse(text, { directory: context.directory });
  return driver.fetch(await driver.pin(reference, context), context);
}

/** All of what was fetched, as {@link exportDescription}. */
export function described({ entry }: OriginContent, { store }: TestContext): Promise<string[]> {
  return exportDescription(store, entry.link);
}

/** Path and kind of all entries, of origins what they refer to. */
export async function listed(content: OriginContent, { store }: TestContext): Promise<string[]> {
  const entries = await collect(walkTree(store, content.entry.link));
  return entries.map(({ path, entry }) =>
    entry.kind === 'origin'
      ? `${path} ${entry.driver}:${entry.reference} ${entry.integrity}`
      : `${path} ${entry.kind}`,
  );
}
