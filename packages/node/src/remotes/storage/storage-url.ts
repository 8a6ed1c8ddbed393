import { LazytreeError } from '@lazytree/core/errors';

/** What a URL of a remote says about where it is stored. */
export type StorageUrl =
  | { kind: 'azure'; account: string; container: string; prefix: string }
  | { kind: 'directory'; path: string };

const SUPPORTED = 'azure://ACCOUNT/CONTAINER[/PREFIX] or file:///DIRECTORY';

/** Signs of a secret, in whatever it is written: a SAS token, a connection string, the user of a URL, an account key. */
const SECRETS = [
  /[?&;]\s*(?:sig|se|sp|sv)=/i,
  /\b(?:sig|SharedAccessSignature|AccountKey|AccountName|DefaultEndpointsProtocol|BlobEndpoint)=/i,
  /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*@/i,
  /[A-Za-z0-9+/]{86}==/,
];

const WHERE_SECRETS_GO =
  'secrets go into a file of mode 0600 that --credentials names, or into AZURE_STORAGE_CONNECTION_STRING, ' +
  'AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN';

/**
 * Secrets on a command line are seen by everybody on the machine.
 *
 * @param what the argument, for people
 * @throws LazytreeError USAGE, which does not say what was given
 */
export function refuseSecret(text: string, what: string): void {
  if (!SECRETS.some((secret) => secret.test(text)) && !SECRETS.some((secret) => secret.test(decoded(text))))
    return;
  throw new LazytreeError('USAGE', `${what} contains a secret, which does not belong on a command line`, {
    hint: WHERE_SECRETS_GO,
  });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @throws LazytreeError USAGE */
export function parseStorageUrl(text: string): StorageUrl {
  refuseSecret(text, 'the URL');
  const [, scheme, rest] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(text) ?? [];
  switch (scheme?.toLowerCase()) {
    case 'azure':
      return parseAzure(text, rest);
    case 'file':
      return parseFile(text, rest);
    default:
      throw new LazytreeError('USAGE', `'${text}' is not the URL of a remote`, { hint: `use ${SUPPORTED}` });
  }
}

function parseAzure(text: string, rest: string): StorageUrl {
  const wrong = (why: string, hint: string) =>
    new LazytreeError('USAGE', `'${text}' cannot be a remote: ${why}`, { hint });
  if (/[?#]/.test(rest)) throw wrong('it has a query or a fragment', 'leave it out');
  const [account = '', container = '', ...prefix] = rest.replace(/\/+$/, '').split('/');
  if (!/^[a-z0-9]{3,24}$/.test(account)) {
    throw wrong('that is no name of a storage account', 'use 3 to 24 lower-case letters and digits');
  }
  const isContainer = /^[a-z0-9](?:-?[a-z0-9])+$/.test(container) && container.length <= 63;
  if (!(isContainer && container.length >= 3) && container !== '$root') {
    throw wrong(
      'that is no name of a container',
      'use 3 to 63 lower-case letters, digits and single dashes: azure://ACCOUNT/CONTAINER',
    );
  }
  const isPart = (part: string) =>
    /^[A-Za-z0-9_@+=,~-][A-Za-z0-9._@+=,~-]*$/.test(part) && !part.endsWith('.');
  if (
    !prefix.every(isPart) ||
    prefix.join('/').length > 200 ||
    (container === '$root' && prefix.length > 0)
  ) {
    throw wrong(
      'that is no prefix',
      'use letters, digits and . _ @ + = , ~ - between slashes, up to 200; none in $root',
    );
  }
  return { kind: 'azure', account, container, prefix: prefix.join('/') };
}

function parseFile(text: string, rest: string): StorageUrl {
  let path: string;
  try {
    path = decodeURIComponent(rest.replace(/^localhost(?=\/)/, ''));
  } catch {
    throw new LazytreeError('USAGE', `'${text}' has a % that begins no escape`, { hint: 'write it as %25' });
  }
  if (!path.startsWith('/') || path.includes('\0')) {
    throw new LazytreeError('USAGE', `'${text}' names no directory`, { hint: 'use file:///DIRECTORY' });
  }
  return { kind: 'directory', path: path.length > 1 ? path.replace(/\/+$/, '') || '/' : path };
}

/**
 * The URL of an account's blobs, where it is not Azure's own: of an emulator, a private endpoint or another cloud.
 *
 * @returns it without a slash at its end
 * @throws LazytreeError USAGE
 */
export function parseEndpoint(text: string): string {
  refuseSecret(text, 'the endpoint');
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash || url.username || url.password) {
    throw new LazytreeError('USAGE', 'the endpoint is not the http or https URL of a storage account', {
      hint: 'such as https://ACCOUNT.blob.core.windows.net, or http://127.0.0.1:10000/ACCOUNT for Azurite',
    });
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}
