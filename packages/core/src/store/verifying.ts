import { type BlockSource, type BlockStore, forwarding } from './block-store.js';
import { checkBytes } from './verified.js';

/** Checks every block against its CID on the way out of `inner`, and on the way in. */
export function verifying<S extends BlockSource>(inner: S): S {
  const name = `verifying(${inner.describe()})`;
  const wrapper: BlockSource & Partial<BlockStore> = {
    ...forwarding(inner),
    describe: () => name,
    async get(link, options) {
      return checkBytes(link, await inner.get(link, options), inner.describe());
    },
  };
  if (isStore(inner)) {
    wrapper.put = async (block, options) => {
      checkBytes(block.link, block.bytes, 'a put');
      await inner.put(block, options);
    };
  }
  return wrapper as S;
}

function isStore(source: BlockSource): source is BlockStore {
  return 'put' in source;
}
