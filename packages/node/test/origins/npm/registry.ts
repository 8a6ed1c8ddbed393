import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryDirectory } from '../../../../core/test/helpers.js';
import { type ArchiveServer, archiveServer } from '../archive-server.js';
import { integrityOf, packedPackage } from './packed.js';

/** A registry of npm with what is published to it. */
export interface Registry extends ArchiveServer {
  /** With what npm reads as the address of this registry. */
  environment: Record<string, string>;
  /** An empty directory, where no settings are found. */
  directory: string;
  /** @returns the tarball */
  publish(manifest: Manifest, options?: PublishOptions): Buffer;
}

export interface Manifest {
  name: string;
  version: string;
  [field: string]: unknown;
}

export interface PublishOptions {
  files?: Record<string, string>;
  /** Default: the package.json and the files. */
  tarball?: Buffer;
  /** As registries of old: a sha1, and nothing else. */
  onlyShasum?: boolean;
  /** Default: the usual one. */
  tarballName?: string;
  tags?: string[];
}

/** @param host as of an archive server */
export async function registry(host?: string): Promise<Registry> {
  const server = await archiveServer(host);
  const directory = await temporaryDirectory();
  await writeFile(join(directory, 'package.json'), '{}');
  const packuments = new Map<
    string,
    { 'dist-tags': Record<string, string>; versions: Record<string, unknown> }
  >();
  return {
    ...server,
    directory,
    environment: {
      npm_config_registry: `${server.url}/`,
      npm_config_userconfig: join(directory, 'no-user'),
      npm_config_globalconfig: join(directory, 'no-global'),
      npm_config_fetch_retries: '2',
    },
    publish(manifest, options = {}) {
      const { name, version } = manifest;
      const {
        files,
        tarball = packedPackage(manifest, files),
        onlyShasum = false,
        tags = ['latest'],
      } = options;
      const { tarballName = `${name}/-/${name.slice(name.indexOf('/') + 1)}-${version}.tgz` } = options;
      const packument = packuments.get(name) ?? { 'dist-tags': {}, versions: {} };
      packuments.set(name, packument);
      const shasum = createHash('sha1').update(tarball).digest('hex');
      packument.versions[version] = {
        ...manifest,
        dist: {
          tarball: `${server.url}/${tarballName}`,
          shasum,
          ...(onlyShasum ? {} : { integrity: integrityOf(tarball) }),
        },
      };
      for (const tag of tags) packument['dist-tags'][tag] = version;
      server.files.set(name, Buffer.from(JSON.stringify({ name, ...packument })));
      server.files.set(tarballName, tarball);
      return tarball;
    },
  };
}
