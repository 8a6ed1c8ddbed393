import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { Header, Pax } from 'tar';

/** An entry of a tarball, as odd as need be. */
export interface PackedEntry {
  path: string;
  content?: Buffer | string;
  mode?: number;
  type?:
    | 'File'
    | 'OldFile'
    | 'ContiguousFile'
    | 'Directory'
    | 'SymbolicLink'
    | 'Link'
    | 'FIFO'
    | 'CharacterDevice';
  linkpath?: string;
}

/** A tarball of just these entries, in their order. */
export function packed(entries: readonly PackedEntry[]): Buffer {
  const blocks = entries.flatMap(({ path, content = '', mode = 0o644, type = 'File', linkpath }) => {
    const bytes = Buffer.from(content);
    const fields = { path, mode, size: bytes.length, type, linkpath, mtime: new Date(0) };
    const header = new Header(fields);
    const needsPax = header.encode();
    const before = needsPax ? [new Pax(fields).encode()] : [];
    return [...before, header.block as Buffer, bytes, Buffer.alloc(-bytes.length & 511)];
  });
  return gzipSync(Buffer.concat([...blocks, Buffer.alloc(1024)]));
}

/** The usual tarball of a package. */
export function packedPackage(manifest: object, files: Readonly<Record<string, string>> = {}): Buffer {
  return packed([
    { path: 'package/package.json', content: JSON.stringify(manifest) },
    ...Object.entries(files).map(([path, content]) => ({ path: `package/${path}`, content })),
  ]);
}

export function integrityOf(bytes: Buffer, algorithm = 'sha512'): string {
  return `${algorithm}-${createHash(algorithm).update(bytes).digest('base64')}`;
}
