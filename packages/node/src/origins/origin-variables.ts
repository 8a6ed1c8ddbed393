/**
 * Variables of a caller's environment that origins may need: tokens, proxies, where configuration is. Where a daemon
 * carries commands out, these travel to it with each of them; it keeps them in memory alone. Loads nothing: every
 * command does it.
 */
export const ORIGIN_VARIABLE =
  /^(?:npm_config_[A-Za-z0-9_]+|NPM_[A-Z0-9_]+|[A-Z][A-Z0-9_]*_TOKEN|GH_[A-Z0-9_]+|GITHUB_[A-Z0-9_]+|GIT_[A-Z0-9_]+|SSH_AUTH_SOCK|SSH_ASKPASS|(?:https?|no|all)_proxy|(?:HTTPS?|NO|ALL)_PROXY|NODE_EXTRA_CA_CERTS|SSL_CERT_(?:FILE|DIR)|HOME|XDG_CONFIG_HOME|PREFIX)$/;

/** Those of an environment that are set. */
export function originEnv(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const found = Object.entries(env).filter(
    ([name, value]) => value !== undefined && ORIGIN_VARIABLE.test(name),
  );
  return Object.fromEntries(found as [string, string][]);
}
