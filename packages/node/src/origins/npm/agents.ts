import type { Agent } from 'node:http';
import { getAgent } from '@npmcli/agent';
import type { NpmConfig } from './npm-config.js';

/** Of npm-registry-fetch, where nothing is configured. */
const TIMEOUT_MS = 30_000;

type AgentOf = (url: URL) => Agent;

const known = new WeakMap<NpmConfig, { agentOf: AgentOf | undefined }>();

/**
 * The connections that npm's library would make: by its own agents, with the same settings. They are told once which
 * protocol is theirs; otherwise they look for it in a stack trace, twice for each request.
 *
 * @returns undefined where registries have certificates of their own, which only the library finds
 */
export function agentsOf(config: NpmConfig): AgentOf | undefined {
  const found = known.get(config) ?? { agentOf: hasCertificates(config) ? undefined : makeAgents(config) };
  known.set(config, found);
  return found.agentOf;
}

function hasCertificates(config: NpmConfig): boolean {
  return Object.keys(config).some((key) => key.endsWith(':certfile'));
}

/** One for each origin: a proxy may not be meant for all of them. */
function makeAgents(config: NpmConfig): AgentOf {
  const agents = new Map<string, Agent>();
  return ({ protocol, origin }) => {
    const agent = agents.get(origin) ?? makeAgent(config, { protocol, origin });
    agents.set(origin, agent);
    return agent;
  };
}

function makeAgent(config: NpmConfig, { protocol, origin }: { protocol: string; origin: string }): Agent {
  const { ca, cert, key, localAddress, maxSockets, noProxy, httpsProxy, proxy, strictSSL, timeout } = config;
  const agent = getAgent(origin, {
    ca,
    cert,
    key,
    localAddress,
    maxSockets,
    noProxy,
    proxy: httpsProxy || proxy,
    rejectUnauthorized: strictSSL === undefined || strictSSL === null ? isVerifying() : strictSSL !== false,
    timeout: timeout || TIMEOUT_MS,
  });
  return Object.assign(agent, { protocol, defaultPort: protocol === 'https:' ? 443 : 80 });
}

function isVerifying(): boolean {
  return process.env.NODE_TLS_REJECT_UNAUTHORIZED !== '0';
}
