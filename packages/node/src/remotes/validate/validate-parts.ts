import type { RemoteIndex } from '../index/remote-index.js';
import type { PackReader } from '../packs/pack-reader.js';
import type { Storage } from '../storage/storage.js';

/** What is validated. */
export interface ValidateParts {
  storage: Storage;
  index: RemoteIndex;
  packs: PackReader;
}
