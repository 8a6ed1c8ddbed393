import {
  decodeFileNode,
  type FileNode,
  type FilePart,
  formatLink,
  InvalidNodeError,
  type Link,
  linkCodec,
  RAW,
} from '@lazytree/core';
import { type Blocks, MissingBlocks } from './blocks.js';

/** File nodes that are kept decoded; with some thousand parts each, a few tens of MB at the most. */
const NODES = 64;

/** Reads ranges of files. */
export interface Content {
  /**
   * Bytes `offset` to `offset + size` of a file, in pieces; fewer at its end.
   *
   * @throws MissingBlocks for all that the range needs and is not here; InvalidNodeError
   */
  read(file: FilePart, offset: number, size: number): Uint8Array[];
}

export function createContent({ read, keep }: Blocks): Content {
  const nodes = new Map<Link, DecodedNode>();

  function nodeOf(part: FilePart, level: number | undefined): DecodedNode {
    let node = nodes.get(part.link);
    if (!node) {
      node = withOffsets(decodeFileNode(read(part.link)));
      nodes.set(part.link, node);
      if (nodes.size > NODES) nodes.delete(nodes.keys().next().value as Link);
    }
    if (node.size !== part.size || (level !== undefined && node.level !== level)) {
      throw new InvalidNodeError(`${formatLink(part.link)}: not the file node that the one above says`);
    }
    return node;
  }

  function chunk(part: FilePart, from: number, to: number): Uint8Array {
    const bytes = read(part.link);
    if (bytes.length !== part.size) {
      throw new InvalidNodeError(`${formatLink(part.link)}: ${bytes.length} bytes, not ${part.size}`);
    }
    if (from === 0 && to === bytes.length) return bytes;
    // The rest is likely to be asked for next.
    if (to < bytes.length) keep(part.link, Buffer.from(bytes));
    return bytes.subarray(from, to);
  }

  return {
    read(file, offset, size) {
      const end = Math.min(offset + size, file.size);
      if (offset >= end) return [];
      if (linkCodec(file.link) === RAW) return [chunk(file, offset, end)];
      const pieces: Uint8Array[] = [];
      const missing = new Set<Link>();
      let corrupt = false;

      const below = (part: FilePart, start: number, level: number | undefined): void => {
        try {
          if (level === -1) {
            pieces.push(chunk(part, Math.max(0, offset - start), Math.min(part.size, end - start)));
            return;
          }
          const node = nodeOf(part, level);
          for (let i = node.partAt(Math.max(0, offset - start)); i < node.parts.length; i++) {
            const at = start + node.offsets[i];
            if (at >= end) break;
            below(node.parts[i], at, node.level - 1);
          }
        } catch (error) {
          if (!(error instanceof MissingBlocks)) throw error;
          for (const link of error.links) missing.add(link);
          corrupt ||= error.corrupt;
        }
      };

      below(file, 0, undefined);
      if (missing.size > 0) throw new MissingBlocks([...missing], corrupt);
      return pieces;
    },
  };
}

interface DecodedNode extends FileNode {
  /** Where each part begins, relative to the node. */
  offsets: Float64Array;
  /** The part that holds an offset within the node. */
  partAt(offset: number): number;
}

function withOffsets(node: FileNode): DecodedNode {
  const offsets = new Float64Array(node.parts.length);
  let offset = 0;
  node.parts.forEach((part, i) => {
    offsets[i] = offset;
    offset += part.size;
  });
  return {
    ...node,
    offsets,
    partAt(wanted) {
      let low = 0;
      let high = offsets.length;
      while (high - low > 1) {
        const middle = (low + high) >>> 1;
        if (offsets[middle] <= wanted) low = middle;
        else high = middle;
      }
      return low;
    },
  };
}
