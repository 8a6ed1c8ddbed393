import { LazytreeError } from '@lazytree/core/errors';
import { parseInterval } from '@lazytree/node';
import {
  addRemote,
  azureAccess,
  checkRemoteName,
  listRemotes,
  parseEndpoint,
  parseStorageUrl,
  type RemoteConfig,
  refuseSecret,
  removeRemote,
} from '@lazytree/node/remotes';
import { type Action, EXIT_CODES, ExitCode } from '../command.js';
import { oneLine } from '../one-line.js';
import { formatBytes, table } from '../output.js';

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
    const remote: RemoteConfig = { name, url, endpoint, credentialsFile, created: Date.now() };
    await context.inTurn(TURN, () => addRemote(directory, remote));
    await context.remotesChanged(name);
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
    const data = await Promise.all(
      remotes.map(async (remote) => ({
        ...remoteJson(remote),
        traffic: (await context.remoteTraffic(remote.name)) ?? null,
      })),
    );
    return { data: { remotes: data }, text: table(rows) };
  },
};

const rm: Action = {
  arguments: '<name>',
  summary: 'forget a remote; what is stored there stays',
  async run(context, [name]) {
    refuseSecret(name, 'the name');
    const { directory } = await context.home({ create: false });
    await context.inTurn(TURN, () => removeRemote(directory, name));
    await context.remotesChanged(name);
    return { data: { removed: name } };
  },
};

const gc: Action = {
  arguments: '<name>',
  summary: 'remove from a remote what no ref, no history and no pin there needs',
  options: [['--grace <time>', 'how long nothing must have needed it: 30m, 24h, 7d', '24h']],
  details: `What nobody needs is marked by one run, and removed by one that comes a grace period later. A push that
takes longer than that looks again at what it counted on.`,
  async run(context, [name], { grace }) {
    const graceMs = parseInterval(String(grace));
    const remote = await context.remote(name);
    const progress = await context.progress('collect');
    try {
      const collected = await remote.collect({
        graceMs,
        signal: context.signal,
        onProgress: ({ done }) => progress.update({ files: done, bytes: 0 }),
      });
      const { roots, live, condemned, removed, bytes } = collected;
      const text = `${roots} roots need ${live} blocks; ${condemned} more are not needed
removed ${removed} packs of ${formatBytes(bytes)}
`;
      return { data: { remote: name, ...collected }, text };
    } finally {
      progress.stop();
    }
  },
};

const validate: Action = {
  arguments: '<name>',
  summary: 'find out whether a remote does what it has to, and whether what is in it is whole',
  options: [['--deep', 'read and hash every block in it']],
  details: 'Writes a small object and removes it again. Exit code 0 when nothing is wrong.',
  async run(context, [name], { deep }) {
    const remote = await context.remote(name);
    const progress = await context.progress('validate');
    try {
      const checks = await remote.validate({
        deep: deep === true,
        signal: context.signal,
        onProgress: ({ done }) => progress.update({ files: done, bytes: 0 }),
      });
      const failed = checks.find(({ ok }) => !ok);
      const rows = checks.map(({ name: what, ok, detail }) => [ok ? 'ok' : 'FAILED', what, oneLine(detail)]);
      const code = failed && (EXIT_CODES[failed.code as keyof typeof EXIT_CODES] ?? ExitCode.failed);
      return {
        data: { remote: name, ok: failed === undefined, checks },
        text: table(rows),
        ...(code === undefined ? {} : { exitCode: code }),
      };
    } finally {
      progress.stop();
    }
  },
};

function remoteJson({
  name,
  url,
  endpoint,
  credentialsFile,
  created,
}: RemoteConfig): Record<string, unknown> {
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
  actions: { add, list, rm, validate, gc },
};
