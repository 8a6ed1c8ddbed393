// What we use of npm's own libraries, which bring no types.

declare module '@npmcli/agent' {
  import type { Agent } from 'node:http';

  /** The same for the same settings. */
  export function getAgent(url: string, options: Record<string, unknown>): Agent;
}

declare module '@npmcli/config' {
  export default class Config {
    constructor(options: {
      definitions: unknown;
      shorthands: unknown;
      flatten: unknown;
      nerfDarts: unknown;
      npmPath: string;
      argv: string[];
      env: Record<string, string | undefined>;
      cwd: string;
      warn: boolean;
    });
    load(): Promise<void>;
    readonly flat: Record<string, unknown>;
  }
}

declare module '@npmcli/config/lib/definitions/index.js' {
  export const definitions: unknown;
  export const shorthands: unknown;
  export const flatten: unknown;
  export const nerfDarts: unknown;
}

declare module 'npm-package-arg' {
  export interface Result {
    type: 'git' | 'tag' | 'version' | 'range' | 'file' | 'directory' | 'remote' | 'alias';
    registry?: boolean;
    name: string | null;
    scope: string | null;
    fetchSpec: string | null;
    saveSpec: string | null;
    rawSpec: string;
    subSpec?: Result;
    hosted?: { https(options?: { noCommittish: boolean }): string | undefined };
    gitCommittish?: string | null;
    gitRange?: string | null;
    gitSubdir?: string | null;
  }
  function npa(spec: string, where?: string): Result;
  export default npa;
}

declare module 'npm-pick-manifest' {
  interface Manifest {
    name: string;
    version: string;
    dist?: { tarball?: string; integrity?: string; shasum?: string };
  }
  function pickManifest(packument: unknown, wanted: string, options: Record<string, unknown>): Manifest;
  export default pickManifest;
}

declare module 'npm-registry-fetch' {
  interface Response {
    status: number;
    headers: { get(name: string): string | null };
    body: AsyncIterable<Buffer> & { destroy(error?: Error): void };
  }
  interface RegistryFetch {
    (url: string, options: Record<string, unknown>): Promise<Response>;
    pickRegistry(spec: string, options: Record<string, unknown>): string;
  }
  const registryFetch: RegistryFetch;
  export default registryFetch;
}

declare module 'npm-registry-fetch/lib/default-opts.js' {
  const options: { registry: string };
  export default options;
}

declare module 'npm-normalize-package-bin' {
  /** Sets `bin` to an object with nothing but names and paths that cannot leave the package, or removes it. */
  function normalize<T extends { name?: string; bin?: unknown }>(
    manifest: T,
  ): T & { bin?: Record<string, string> };
  export default normalize;
}

declare module 'npm-install-checks' {
  export interface Machine {
    os?: string | undefined;
    cpu?: string | undefined;
    libc?: string | undefined;
  }
  export interface Requirements {
    engines?: unknown;
    os?: unknown;
    cpu?: unknown;
    libc?: unknown;
  }
  /** @throws Error EBADENGINE */
  export function checkEngine(target: Requirements, npm: string | null, node: string, force?: boolean): void;
  /** @throws Error EBADPLATFORM */
  export function checkPlatform(target: Requirements, force: boolean, machine: Machine): void;
  export const currentEnv: { os(): string; cpu(): string; libc(os: string): string | null | undefined };
}

declare module 'ssri' {
  interface Hash {
    algorithm: string;
    digest: string;
  }
  type Integrity = Record<string, Hash[] | undefined> & {
    pickAlgorithm(options?: { algorithms?: string[] }): string;
    toString(): string;
  };
  const ssri: {
    parse(text: string): Integrity | null;
    fromHex(digest: string, algorithm: string): Integrity;
  };
  export default ssri;
}

declare module 'npm-packlist' {
  interface Tree {
    path: string;
    package: Record<string, unknown>;
    isProjectRoot: boolean;
    edgesOut: Map<string, unknown>;
  }
  function packlist(tree: Tree): Promise<string[]>;
  export default packlist;
}

declare module 'json-stringify-nice' {
  /** JSON with its keys in npm's order: `first`, then what is no object, then by name; and a line's end after it. */
  function stringify(value: unknown, first: readonly string[], indent: number | string): string;
  export default stringify;
}

declare module '@npmcli/run-script' {
  /** @throws Error with `code`, `signal`, `stdout` and `stderr` of a script that fails */
  function runScript(options: {
    event: string;
    path: string;
    pkg: Record<string, unknown>;
    stdio: 'pipe';
    env: Record<string, string | undefined>;
    scriptShell?: string;
  }): Promise<{ script?: string; code: number | null }>;
  export default runScript;
}
