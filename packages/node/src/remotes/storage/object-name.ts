import { LazytreeError } from '@lazytree/core/errors';

const PART = /^[A-Za-z0-9_@+=,~%-](?:[A-Za-z0-9._@+=,~%-]{0,199})$/;
const MOST_CHARACTERS = 800;

/**
 * What every storage can have as a name: parts that no file system takes for something else, and that nothing has to
 * escape. A part does not begin with a dot, because a storage keeps its own things under such names, nor end with one,
 * because Azure drops it. No name is a directory of another: where `a` is stored, `a/b` cannot be.
 *
 * @throws LazytreeError FAILED
 */
export function checkObjectName(name: string): void {
  const parts = name.split('/');
  if (name.length <= MOST_CHARACTERS && parts.every((part) => PART.test(part) && !part.endsWith('.'))) return;
  throw new LazytreeError('FAILED', `${JSON.stringify(name.slice(0, 100))} cannot be the name of an object`);
}
