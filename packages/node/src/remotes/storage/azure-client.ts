import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { ContainerClient, RequestPolicyFactory, StoragePipelineOptions } from '@azure/storage-blob';
import type { CredentialEnv } from '../credential-variables.js';
import type { AzureAccess } from '../credentials.js';
import type { StorageTraffic } from './storage.js';

/** Connections to an account at a time; more requests wait for one. */
const MOST_SOCKETS = 64;

export interface AzureClient {
  container: ContainerClient;
  traffic: StorageTraffic;
  /** How far this machine's clock was before that of the storage, in ms, at its last answer. */
  skew(): number | undefined;
  close(): void;
}

/**
 * The library's client of a container, with nothing of its own that repeats requests, so that how often and when is
 * decided in one place. The library is loaded here, by whoever uses a remote and nobody else.
 */
export async function connectAzure(access: AzureAccess, container: string): Promise<AzureClient> {
  const { AnonymousCredential, ContainerClient, newPipeline, StorageSharedKeyCredential } = await import(
    '@azure/storage-blob'
  );
  const { account, endpoint, credential } = access;
  const traffic: StorageTraffic = { requests: 0, sent: 0, received: 0 };
  let skew: number | undefined;
  const Agent = endpoint.startsWith('https:') ? HttpsAgent : HttpAgent;
  const agent = new Agent({ keepAlive: true, maxSockets: MOST_SOCKETS, scheduling: 'lifo' });

  const observer: RequestPolicyFactory = {
    create: (next) => ({
      async sendRequest(request) {
        // One that a proxy needs is there already.
        request.agent ??= agent;
        traffic.requests++;
        if (request.body instanceof Uint8Array) {
          traffic.sent += request.body.length;
          // What becomes the sum of a blob is compared with what has arrived, too.
          const sum = request.headers.get('x-ms-blob-content-md5');
          if (sum !== undefined) request.headers.set('content-md5', sum);
        }
        if (typeof request.body === 'string') traffic.sent += Buffer.byteLength(request.body);
        const response = await next.sendRequest(request);
        const date = Date.parse(response.headers.get('date') ?? '');
        if (!Number.isNaN(date)) skew = Date.now() - date;
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
        : await identity(credential.env),
    options,
  );
  pipeline.factories.push(observer);
  return {
    container: new ContainerClient(credential.kind === 'sas' ? `${url}?${credential.sas}` : url, pipeline),
    traffic,
    skew: () => skew,
    close: () => agent.destroy(),
  };
}

/** What the caller's variables say, because the library looks at those of this process alone. */
async function identity(env: CredentialEnv) {
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
