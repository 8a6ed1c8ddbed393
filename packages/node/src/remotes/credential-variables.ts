/**
 * Variables of a caller's environment that open remotes. Where a daemon carries commands out, these travel to it with
 * each of them; it keeps them in memory alone. Loads nothing: every command does it.
 */
export const CREDENTIAL_VARIABLES = [
  'AZURE_STORAGE_CONNECTION_STRING',
  'AZURE_STORAGE_KEY',
  'AZURE_STORAGE_SAS_TOKEN',
  'AZURE_TENANT_ID',
  'AZURE_CLIENT_ID',
  'AZURE_CLIENT_SECRET',
  'AZURE_CLIENT_CERTIFICATE_PATH',
  'AZURE_CLIENT_CERTIFICATE_PASSWORD',
  'AZURE_FEDERATED_TOKEN_FILE',
  'AZURE_AUTHORITY_HOST',
] as const;

export type CredentialVariable = (typeof CREDENTIAL_VARIABLES)[number];

/** Some of {@link CREDENTIAL_VARIABLES} with their values. */
export type CredentialEnv = Readonly<Partial<Record<CredentialVariable, string>>>;

/** Those of an environment that are set to something. */
export function credentialEnv(env: Readonly<Record<string, string | undefined>>): CredentialEnv {
  const found: Partial<Record<CredentialVariable, string>> = {};
  for (const name of CREDENTIAL_VARIABLES) if (env[name]) found[name] = env[name];
  return found;
}
