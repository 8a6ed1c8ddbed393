import { LazytreeError } from '@lazytree/core/errors';
import { parseConnectionString } from './connection-string.js';
import type { CredentialEnv } from './credential-variables.js';
import { readCredentialsFile } from './credentials-file.js';

/** How an account is reached, and as whom. Never to be logged. */
export interface AzureAccess {
  account: string;
  /** The URL of its blobs, without a slash at its end. */
  endpoint: string;
  credential:
    | { kind: 'key'; key: string }
    | { kind: 'sas'; sas: string }
    | { kind: 'identity'; env: CredentialEnv };
  /** What was used and where it is from, for people: nothing secret. */
  via: string;
}

export interface AzureAccessOptions {
  account: string;
  endpoint?: string | undefined;
  /** An absolute path. */
  credentialsFile?: string | undefined;
  env: CredentialEnv;
}

/**
 * What opens a storage account: the file of the remote, or the caller's variables, or else what the Azure identity
 * library finds. The most complete secret of a source is the one that is used: a connection string, then a key, then a
 * SAS token.
 *
 * @throws LazytreeError REFUSED, NOT_FOUND (the file)
 */
export async function azureAccess(options: AzureAccessOptions): Promise<AzureAccess> {
  const { account, credentialsFile: file, env } = options;
  const secrets = file === undefined ? env : await readCredentialsFile(file);
  const source = (name: string) => (file === undefined ? name : `the credentials file ${file}`);
  const access = secretAccess(secrets, { ...options, source }) ?? {
    account,
    endpoint: options.endpoint ?? azureEndpoint(account),
    credential: { kind: 'identity' as const, env },
    via: identityOf(env),
  };
  refuseInTheClear(access);
  return access;
}

/** Which of its ways the identity library goes, for people. */
function identityOf(env: CredentialEnv): string {
  const names = [
    'AZURE_CLIENT_SECRET',
    'AZURE_CLIENT_CERTIFICATE_PATH',
    'AZURE_FEDERATED_TOKEN_FILE',
  ] as const;
  const used = env.AZURE_TENANT_ID && env.AZURE_CLIENT_ID ? names.find((name) => env[name]) : undefined;
  return used ? `the identity of ${used}` : 'the default Azure credential';
}

interface SecretAccessOptions extends AzureAccessOptions {
  source(name: string): string;
}

function secretAccess(
  secrets: CredentialEnv,
  { account, endpoint, source }: SecretAccessOptions,
): AzureAccess | undefined {
  const connection = secrets.AZURE_STORAGE_CONNECTION_STRING;
  if (connection !== undefined) {
    const from = source('AZURE_STORAGE_CONNECTION_STRING');
    const parsed = parseConnectionString(connection, from);
    if (parsed.account !== undefined && parsed.account !== account) {
      throw new LazytreeError('REFUSED', `${from} is for the account '${parsed.account}', not '${account}'`, {
        hint: `use a connection string of '${account}', or name a file with one: \`remote add --credentials FILE\``,
      });
    }
    const place = endpoint ?? parsed.endpoint ?? azureEndpoint(account);
    return parsed.key
      ? keyAccess({ account, endpoint: place, key: parsed.key, from: `the account key in ${from}` })
      : sasAccess({ account, endpoint: place, sas: parsed.sas ?? '', from: `the SAS token in ${from}` });
  }
  const place = endpoint ?? azureEndpoint(account);
  const key = secrets.AZURE_STORAGE_KEY;
  if (key !== undefined)
    return keyAccess({
      account,
      endpoint: place,
      key,
      from: `the account key in ${source('AZURE_STORAGE_KEY')}`,
    });
  const sas = secrets.AZURE_STORAGE_SAS_TOKEN;
  if (sas !== undefined)
    return sasAccess({
      account,
      endpoint: place,
      sas,
      from: `the SAS token in ${source('AZURE_STORAGE_SAS_TOKEN')}`,
    });
  return undefined;
}

interface Secret {
  account: string;
  endpoint: string;
  from: string;
}

function keyAccess({ account, endpoint, key, from }: Secret & { key: string }): AzureAccess {
  if (!/^[A-Za-z0-9+/]{16,}={0,2}$/.test(key.trim())) {
    throw new LazytreeError('REFUSED', `${from} is not one: it is not base64`, {
      hint: 'copy it from `Access keys` of the storage account',
    });
  }
  return { account, endpoint, credential: { kind: 'key', key: key.trim() }, via: from };
}

function sasAccess({ account, endpoint, sas, from }: Secret & { sas: string }): AzureAccess {
  const token = sas.trim().replace(/^\?/, '');
  const fields = new URLSearchParams(token);
  if (!fields.get('sig') || /[\s#]/.test(token)) {
    throw new LazytreeError('REFUSED', `${from} is not one: it has no signature`, {
      hint: 'it is the part of a SAS URL after the question mark',
    });
  }
  const until = Date.parse(fields.get('se') ?? '');
  const via = Number.isNaN(until) ? from : `${from}, valid until ${new Date(until).toISOString()}`;
  return { account, endpoint, credential: { kind: 'sas', sas: token }, via };
}

function azureEndpoint(account: string): string {
  return `https://${account}.blob.core.windows.net`;
}

/** A key signs and is not sent; the others are, and whoever sees one can use it. */
function refuseInTheClear({ endpoint, credential, via }: AzureAccess): void {
  const { protocol, hostname } = new URL(endpoint);
  if (protocol === 'https:' || credential.kind === 'key') return;
  const isHere = hostname === 'localhost' || hostname === '[::1]' || /^127\.(?:\d+\.){2}\d+$/.test(hostname);
  if (isHere && credential.kind === 'sas') return;
  throw new LazytreeError('REFUSED', `${via} is not sent to ${endpoint} in the clear`, {
    hint: 'use an endpoint with https',
  });
}
