import { formatLink, type Link } from '@lazytree/core';

/** Where in a remote things are (docs/remotes.md). */
export const PACKS = 'packs/';
export const TABLES = 'index/';
/** Tables of blocks that no root needed at the last collection. */
export const CONDEMNED = 'condemned/';
export const ROOTS = 'roots/';
export const REFS = 'refs/';
/** Among the tables, so that who lists these sees whether somebody has collected since the last time. */
export const LOCK = 'index/lock';

export function packName(id: string): string {
  return PACKS + toHex(id);
}

export function tableName(id: string): string {
  return TABLES + toHex(id);
}

export function rootName(root: Link): string {
  return ROOTS + formatLink(root);
}

export function refName(name: string): string {
  return REFS + name;
}

/** Of the id of a pack or a table: 32 Latin-1 characters. */
export function toHex(id: string): string {
  return Buffer.from(id, 'latin1').toString('hex');
}

/** @returns undefined for what is no id */
export function fromHex(text: string): string | undefined {
  return /^[0-9a-f]{64}$/.test(text) ? Buffer.from(text, 'hex').toString('latin1') : undefined;
}
