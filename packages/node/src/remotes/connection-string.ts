import { LazytreeError } from '@lazytree/core/errors';

/** What a connection string says that is needed here. */
export interface ConnectionString {
  account: string | undefined;
  key: string | undefined;
  sas: string | undefined;
  /** The URL of the account's blobs; undefined for Azure's own. */
  endpoint: string | undefined;
}

/** Azurite's well-known account, which `UseDevelopmentStorage=true` stands for: published, and no secret. */
const EMULATOR = {
  account: 'devstoreaccount1',
  key: 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==',
  sas: undefined,
  endpoint: 'http://127.0.0.1:10000/devstoreaccount1',
};

/**
 * @param source where it is from, for people
 * @throws LazytreeError REFUSED, which does not say what was given
 */
export function parseConnectionString(text: string, source: string): ConnectionString {
  const values = new Map<string, string>();
  for (const field of text.trim().split(';')) {
    if (field.trim() === '') continue;
    const [, name, value] = /^\s*([A-Za-z]+)\s*=(.*)$/s.exec(field) ?? [];
    if (name === undefined) throw wrong(source, 'a part of it is not NAME=VALUE');
    values.set(name.toLowerCase(), value.trim());
  }
  if (values.get('usedevelopmentstorage')?.toLowerCase() === 'true') return EMULATOR;
  const key = values.get('accountkey');
  const sas = values.get('sharedaccesssignature')?.replace(/^\?/, '');
  const blobs = values.get('blobendpoint')?.replace(/\/+$/, '');
  if (!key && !sas) throw wrong(source, 'it has neither AccountKey nor SharedAccessSignature');
  const account = values.get('accountname') ?? (blobs && accountOf(blobs));
  if (key && !account) throw wrong(source, 'it has no AccountName');
  const suffix = values.get('endpointsuffix');
  const protocol = values.get('defaultendpointsprotocol') ?? 'https';
  const endpoint =
    blobs ?? (suffix && account ? `${protocol}://${account}.blob.${suffix}`.replace(/\/+$/, '') : undefined);
  if (
    endpoint !== undefined &&
    (!URL.canParse(endpoint) || /[?#@]/.test(endpoint) || !/^https?:/.test(endpoint))
  )
    throw wrong(source, 'its BlobEndpoint is not the http or https URL of an account');
  return { account, key, sas, endpoint };
}

function accountOf(endpoint: string): string | undefined {
  return /^https?:\/\/([a-z0-9]{3,24})\.blob\./.exec(endpoint)?.[1];
}

function wrong(source: string, why: string): LazytreeError {
  return new LazytreeError('REFUSED', `${source} is not the connection string of a storage account: ${why}`, {
    hint: 'copy it from `Access keys` or `Shared access signature` of the storage account',
  });
}
