import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Readable } from 'node:stream';
import type { TokenCredential } from '@azure/identity';
import {
  AnonymousCredential,
  ContainerClient,
  newPipeline,
  type RequestPolicyFactory,
  type StoragePipelineOptions,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { errnoOf, LazytreeError } from '@lazytree/core/errors';
import type { CredentialEnv } from '../credential-variables.js';
import type { AzureAccess } from '../credentials.js';
import { inPieces } from './pieces.js';
import type { StorageTraffic } from './storage.js';

/** Connections to an account at a time; more requests wait for one. */
const MOST_SOCKETS = 64;
/** Bytes that are handed to a connection at a time. */
const PIECE = 256 << 10;

export interface AzureClient {
  container: ContainerClient;
  traffic: StorageTraffic;
  /** What is sent, each time from its beginning. `moved` is called at the pace at which the other side takes it. */
  body(parts: readonly Uint8Array[], moved: () => void): () => NodeJS.ReadableStream;
  close(): void;
}

/**
 * The library's client of a container, with nothing of its own that repeats requests, so that how often and when is
 * decided in one place.
 */
export async function connectAzure(access: AzureAccess, container: string): Promise<AzureClient> {
  const { account, endpoint, credential } = access;
  const traffic: StorageTraffic = { requests: 0, sent: 0, received: 0 };
  const Agent = endpoint.startsWith('https:') ? HttpsAgent : HttpAgent;
  const agent = new Agent({ keepAlive: true, maxSockets: MOST_SOCKETS, scheduling: 'lifo' });

  const observer: RequestPolicyFactory = {
    create: (next) => ({
      async sendRequest(request) {
        // One that a proxy needs is there already.
        request.agent ??= agent;
        traffic.requests++;
        if (typeof request.body === 'string') traffic.sent += Buffer.byteLength(request.body);
        // What becomes the sum of a blob is compared with what has arrived, too.
        const sum = request.headers.get('x-ms-blob-content-md5');
        if (sum !== undefined && request.headers.contains('x-ms-blob-type'))
          request.headers.set('content-md5', sum);
        const response = await next.sendRequest(request);
        // What is streamed is counted where it is read.
        if (response.bodyAsText) traffic.received += Buffer.byteLength(response.bodyAsText);
        return response;
      },
    }),
  };

  const options: StoragePipelineOptions = {
    retryOptions: { maxTries: 1 },
    userAgentOptions: { userAgentPrefix: 'lazytree' },
  };
  const url = `${endpoint}/${container}`;
  const pipeline = newPipeline(
    credential.kind === 'key'
      ? new StorageSharedKeyCredential(account, credential.key)
      : credential.kind === 'sas'
        ? new AnonymousCredential()
        : await identity(access, credential.env),
    options,
  );
  pipeline.factories.push(observer);
  return {
    container: new ContainerClient(credential.kind === 'sas' ? `${url}?${credential.sas}` : url, pipeline),
    traffic,
    body: (parts, moved) => () => {
      const pieces = function* () {
        for (const piece of inPieces(parts, PIECE)) {
          moved();
          const bytes = piece.length === 1 ? piece[0] : Buffer.concat(piece);
          traffic.sent += bytes.length;
          yield bytes;
        }
      };
      return Readable.from(pieces(), { objectMode: false, highWaterMark: PIECE });
    },
    close: () => agent.destroy(),
  };
}

/** Whatever goes wrong with it, also where it reads files or asks others, is said in words of our own. */
async function identity(access: AzureAccess, env: CredentialEnv): Promise<TokenCredential> {
  let credential: TokenCredential;
  try {
    credential = await libraryCredential(env);
  } catch (error) {
    throw noToken(error, access);
  }
  return {
    async getToken(scopes, options) {
      try {
        return await credential.getToken(scopes, options);
      } catch (error) {
        if (options?.abortSignal?.aborted) throw error;
        throw noToken(error, access);
      }
    },
  };
}

const NO_TOKEN =
  'set AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN where the command runs ' +
  '(and for mounts where the daemon is started), or name a file of mode 0600: `remote add --credentials FILE`; or log ' +
  'in with `az login`';

function noToken(error: unknown, { account, via }: AzureAccess): LazytreeError {
  const message = String((error as Error).message);
  const what = `${via} gives no access to the account '${account}'`;
  const cut = /\b(?:ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT)\b/.exec(message)?.[0];
  // Of many ways that were tried, one that leads nowhere says nothing about the others.
  if (cut !== undefined && (error as Error).name !== 'AggregateAuthenticationError')
    return new LazytreeError('NETWORK', `${what}: the login service cannot be reached (${cut})`);
  const number = /AADSTS\d+/.exec(message)?.[0] ?? errnoOf(error);
  const said = number !== undefined && /^[A-Z0-9_]+$/.test(number) ? ` (${number})` : '';
  return new LazytreeError('REFUSED', `${what}${said}`, { hint: NO_TOKEN });
}

/** What the caller's variables say, because the library looks at those of this process alone. */
async function libraryCredential(env: CredentialEnv): Promise<TokenCredential> {
  const library = await import('@azure/identity');
  const { AZURE_TENANT_ID: tenant, AZURE_CLIENT_ID: client, AZURE_AUTHORITY_HOST: authorityHost } = env;
  const options = authorityHost === undefined ? {} : { authorityHost };
  if (tenant && client && env.AZURE_CLIENT_SECRET)
    return new library.ClientSecretCredential(tenant, client, env.AZURE_CLIENT_SECRET, options);
  if (tenant && client && env.AZURE_CLIENT_CERTIFICATE_PATH) {
    const certificate = {
      certificatePath: env.AZURE_CLIENT_CERTIFICATE_PATH,
      certificatePassword: env.AZURE_CLIENT_CERTIFICATE_PASSWORD,
    };
    return new library.ClientCertificateCredential(tenant, client, certificate, options);
  }
  if (tenant && client && env.AZURE_FEDERATED_TOKEN_FILE) {
    const tokenFilePath = env.AZURE_FEDERATED_TOKEN_FILE;
    return new library.WorkloadIdentityCredential({
      tenantId: tenant,
      clientId: client,
      tokenFilePath,
      ...options,
    });
  }
  return new library.DefaultAzureCredential({
    ...options,
    ...(tenant && { tenantId: tenant }),
    ...(client && { managedIdentityClientId: client }),
  });
}
