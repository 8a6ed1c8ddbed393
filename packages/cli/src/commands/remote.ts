import { LazytreeError } from '@lazytree/core/errors';
import {
  addRemote,
  azureAccess,
  checkRemoteName,
  listRemotes,
  parseEndpoint,
  parseStorageUrl,
  type Remote,
  refuseSecret,
  removeRemote,
} from '@lazytree/node/remotes';
import type { Action } from '../command.js';
import { table } from '../output.js';

/** Of those who read the list of remotes and then write it. */
const TURN = 'remotes';

const SECRETS = `URL is azure://ACCOUNT/CONTAINER[/PREFIX] or file:///DIRECTORY.

Secrets are never arguments. They are, in this order:
  in FILE (mode 0600): a connection string, or lines NAME=VALUE with the first three of these variables
  AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN
  what the Azure identity library finds: AZURE_CLIENT_ID and others, a managed identity, \`az login\``;

const add: Action = {
  arguments: '<name> <url>',
  summary: 'name a place outside of the cluster where trees are kept; nothing is asked of it yet',
  options: [
    ['--credentials <file>', 'a file of mode 0600 with its secrets; read again whenever it is opened'],
    ['--endpoint <url>', 'the URL of the account, where it is not Azure’s own'],
  ],
  details: SECRETS,
  async run(context, [name, url], options) {
    refuseSecret(name, 'the name');
    checkRemoteName(name);
    const place = parseStorageUrl(url);
    if (place.kind !== 'azure' && (options.endpoint !== undefined || options.credentials !== undefined))
      throw new LazytreeError('USAGE', '--endpoint and --credentials are for azure:// alone');
    const endpoint = options.endpoint === undefined ? undefined : parseEndpoint(String(options.endpoint));
    const credentialsFile = await fileNamed(options.credentials);
    if (place.kind === 'azure' && credentialsFile !== undefined) {
      // What cannot be used is better said now.
      await azureAccess({ account: place.account, endpoint, credentialsFile, env: {} });
    }
    const { directory } = await context.home({ create: true });
    const remote: Remote = { name, url, endpoint, credentialsFile, created: Date.now() };
    await context.inTurn(TURN, () => addRemote(directory, remote));
    // Those of one that had the name before.
    context.forgetCredentials(name);
    return { data: { added: remoteJson(remote) } };

    async function fileNamed(given: typeof options.credentials): Promise<string | undefined> {
      if (given === undefined) return undefined;
      refuseSecret(String(given), 'the name of the credentials file');
      return context.file(String(given));
    }
  },
};

const list: Action = {
  arguments: '',
  summary: 'list the remotes',
  async run(context) {
    const { directory } = await context.home({ create: false });
    const remotes = await listRemotes(directory);
    const rows = remotes.map(({ name, url, endpoint, credentialsFile }) => [
      name,
      url,
      [endpoint, credentialsFile && `credentials in ${credentialsFile}`].filter(Boolean).join(', '),
    ]);
    return { data: { remotes: remotes.map(remoteJson) }, text: table(rows) };
  },
};

const rm: Action = {
  arguments: '<name>',
  summary: 'forget a remote; what is stored there stays',
  async run(context, [name]) {
    const { directory } = await context.home({ create: false });
    await context.inTurn(TURN, () => removeRemote(directory, name));
    context.forgetCredentials(name);
    return { data: { removed: name } };
  },
};

function remoteJson({ name, url, endpoint, credentialsFile, created }: Remote): Record<string, unknown> {
  return {
    name,
    url,
    endpoint: endpoint ?? null,
    credentials: credentialsFile ?? null,
    created: new Date(created).toISOString(),
  };
}

export const command = {
  summary: 'places outside of the cluster where trees are kept',
  actions: { add, list, rm },
};
