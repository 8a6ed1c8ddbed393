import {
  type DirectoryNode,
  decodeDirectoryNode,
  decodeFileNode,
  formatLink,
  InvalidNodeError,
  isFile,
  type Link,
  linkCodec,
  RAW,
} from '@lazytree/core';

export type NodeKind = 'root' | 'directory' | 'file';

/** A node and what it has to be. A root may be a directory or a file. */
export interface NodeRef {
  link: Link;
  kind: NodeKind;
}

/** The nodes that a node refers to; content is none. @throws InvalidNodeError */
export function childNodes({ link, kind }: NodeRef, bytes: Uint8Array): NodeRef[] {
  try {
    return kind === 'file' ? belowFile(bytes) : belowDirectory(decodeDirectoryNode(bytes));
  } catch (error) {
    if (!(error instanceof InvalidNodeError)) throw error;
    if (kind === 'root') return childNodes({ link, kind: 'file' }, bytes);
    throw new InvalidNodeError(`${formatLink(link)}: ${error.message}`);
  }
}

function belowFile(bytes: Uint8Array): NodeRef[] {
  const { level, parts } = decodeFileNode(bytes);
  return level === 0 ? [] : parts.map(({ link }) => ({ link, kind: 'file' }));
}

function belowDirectory(node: DirectoryNode): NodeRef[] {
  if (node.kind === 'index') return node.shards.map(({ link }) => ({ link, kind: 'directory' }));
  const below: NodeRef[] = [];
  for (const entry of node.entries) {
    if (entry.kind === 'directory') below.push({ link: entry.link, kind: 'directory' });
    else if (entry.kind === 'origin' && entry.plus) below.push({ link: entry.plus, kind: 'directory' });
    else if (isFile(entry) && linkCodec(entry.link) !== RAW) below.push({ link: entry.link, kind: 'file' });
  }
  return below;
}
