import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAzureStorage } from '../../dist/remotes/storage/azure.js';
import { openDirectoryStorage } from '../../dist/remotes/storage/directory.js';
import { startAzurite } from './azurite.js';
import { describeStorage } from './storage-conformance.js';

describeStorage({
  name: 'a directory',
  clockSlackMs: 1000,
  async make() {
    const directory = fs.mkdtempSync(join(tmpdir(), 'lazytree-storage-'));
    return {
      open: async () => openDirectoryStorage(directory, { url: `file://${directory}` }),
      close: async () => fs.rmSync(directory, { recursive: true }),
    };
  },
});

for (const prefix of ['', 'some/prefix']) {
  describeStorage({
    name: `a container${prefix && ' below a prefix'}`,
    clockSlackMs: 2000,
    async make() {
      const azurite = await startAzurite();
      const { account, endpoint, key } = azurite;
      const container = await azurite.createContainer();
      const credential = { kind: 'key' as const, key };
      return {
        open: () =>
          openAzureStorage({
            access: { account, endpoint, credential, via: 'the key' },
            container,
            prefix,
            limits: { pageSize: 5 },
          }),
        close: () => azurite.close(),
      };
    },
  });
}
