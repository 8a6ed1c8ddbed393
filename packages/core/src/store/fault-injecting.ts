import type { Link } from '../format/link.js';
import { type Block, type BlockSource, type BlockStore, forwarding } from './block-store.js';

export interface Faults {
  /** Called before each operation; what it throws is the operation's failure. */
  before?: (operation: 'get' | 'has' | 'put' | 'flush', link?: Link) => void | Promise<void>;
  /** Changes what a `get` returns, as bad memory or a lying peer would. */
  tamper?: (link: Link, bytes: Uint8Array) => Uint8Array;
}

/** Lets a test decide when and how `inner` goes wrong. */
export function faultInjecting<S extends BlockSource>(inner: S, faults: Faults): S {
  const wrapper: BlockSource & Partial<BlockStore> = {
    ...forwarding(inner),
    describe: () => `faulty(${inner.describe()})`,
    async get(link, options) {
      await faults.before?.('get', link);
      const bytes = await inner.get(link, options);
      return faults.tamper ? faults.tamper(link, bytes) : bytes;
    },
    async has(link, options) {
      await faults.before?.('has', link);
      return inner.has(link, options);
    },
  };
  if ('put' in inner) {
    const store = inner as BlockSource as BlockStore;
    wrapper.put = async (block: Block, options) => {
      await faults.before?.('put', block.link);
      await store.put(block, options);
    };
    wrapper.flush = async () => {
      await faults.before?.('flush');
      await store.flush();
    };
  }
  return wrapper as S;
}
