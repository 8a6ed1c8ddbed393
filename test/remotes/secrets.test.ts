import fs from 'node:fs';
import { join } from 'node:path';
import {
  AccountSASPermissions,
  AccountSASResourceTypes,
  AccountSASServices,
  generateAccountSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { describe, expect, test } from 'vitest';
import { eventually } from '../cluster/nodes.ts';
import { pseudoRandom, type Sandbox, writeFiles } from '../helpers.ts';
import { stopDaemon, unlessMountable } from '../mount/mountable.ts';
import { killDaemon, sh } from '../mount/mounted.ts';
import { type AzurePlace, newMachine, objectsIn, openAzurePlace, readObject } from './places.ts';

/** A signature for the account, and what of it is secret. */
function signed({ azurite }: AzurePlace): { sas: string; secrets: string[] } {
  const sas = generateAccountSASQueryParameters(
    {
      services: AccountSASServices.parse('b').toString(),
      resourceTypes: AccountSASResourceTypes.parse('sco').toString(),
      permissions: AccountSASPermissions.parse('rwdlac'),
      expiresOn: new Date(Date.now() + 3_600_000),
    },
    new StorageSharedKeyCredential(azurite.account, azurite.key),
  ).toString();
  const signature = new URLSearchParams(sas).get('sig') ?? '';
  return { sas, secrets: [signature, encodeURIComponent(signature)] };
}

function written(directory: string): Buffer {
  const files = fs.readdirSync(directory, { recursive: true, withFileTypes: true });
  const paths = files.filter((one) => one.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  return Buffer.concat(paths.map((path) => fs.readFileSync(path)));
}

describe.skipIf(unlessMountable('secrets of remotes'))('secrets', () => {
  test.each(['a key in the environment', 'a SAS token in a file'])('%s is nowhere', async (how) => {
    const place = await openAzurePlace();
    const { account, connectionString, key } = place.azurite;
    const { sas, secrets } = signed(place);
    const isKey = how.startsWith('a key');
    const loud = { LAZYTREE_DEBUG: '1', LAZYTREE_LOG_LEVEL: 'debug' };
    const file = join(fs.mkdtempSync('/tmp/lazytree-e2e-secret-'), 'file');
    fs.writeFileSync(file, `AZURE_STORAGE_SAS_TOKEN=${sas}\n`, { mode: 0o600 });
    const address = isKey ? place.address : [...place.address, '--credentials', file];
    const env = isKey ? { ...loud, AZURE_STORAGE_CONNECTION_STRING: connectionString } : loud;
    const ana = await newMachine({ ...place, address, env });
    const said: string[] = [];
    const run = async (box: Sandbox, ...args: string[]) => {
      for (const more of [[], ['--json']]) {
        const { out, err } = await box.run([...args, ...more]);
        said.push(out, err);
      }
    };
    writeFiles(ana.path('app'), { small: 'small\n', large: pseudoRandom(3 << 20, 'secrets') });
    await run(ana, 'import', 'app', '--name', 'app');
    await run(ana, 'push', 'app', 'r');
    for (const mistaken of [connectionString, `https://${account}.blob.core.windows.net/c?${sas}`])
      for (const command of ['push app', 'remote rm', 'log app --remote'])
        await run(ana, ...command.split(' '), mistaken);
    const ben = await newMachine({ ...place, address, env });
    await ben.ok('mount', 'app@r', 'mounted');
    const isRequest = () => true;
    place.proxy.plan({ kind: 'cut answer', after: 10 }, { times: 2, to: isRequest });
    place.proxy.plan({ kind: 'answer', status: 503 }, { times: 1, to: isRequest });
    place.proxy.plan(
      { kind: 'answer', status: 403, body: `<Error>${sas}</Error>` },
      { times: 1, to: isRequest },
    );
    await sh(ben, 'cat mounted/large');
    await run(ben, 'pull', 'app', 'r');
    place.proxy.plan({ kind: 'answer', status: 400, body: sas }, { times: 3, to: isRequest });
    await run(ben, 'remote', 'validate', 'r');
    place.proxy.clear();
    await run(ben, 'remote', 'gc', 'r');
    await run(ben, 'ref', 'list', '--remote', 'r');
    const options = ['--from', 'app', '--remote', 'r', '--autosave', '1s'];
    await ben.ok('workspace', 'create', 'work', ...options);
    fs.writeFileSync(ben.path('work/new'), 'new\n');
    const arrived = async () => (await objectsIn(place, 'refs/work')).size === 1;
    await eventually('it is pushed', arrived, 20_000);
    await run(ben, 'status');
    await run(ben, 'daemon', 'status');
    await killDaemon(ben);
    await run(ben, 'cat', 'app@r/small');
    await run(ben, 'workspace', 'remove', 'work');
    await stopDaemon(ben);
    await stopDaemon(ana);
    expect(said.join('')).toContain(`azure://${account}/`);
    const all = [Buffer.from(said.join('\n')), written(ana.home), written(ben.home)];
    for (const name of (await objectsIn(place)).keys()) all.push(await readObject(place, name));
    for (const secret of [key, encodeURIComponent(key), ...secrets])
      for (const bytes of all) expect(bytes.includes(secret)).toBe(false);
    fs.rmSync(join(file, '..'), { recursive: true });
  });
});
