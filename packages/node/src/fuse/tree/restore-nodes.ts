import type { Link } from '@lazytree/core';
import { ROOT_NODE } from '../protocol/kernel.js';
import { DIRECTORY, type NodeTable, NodeTableError } from './node-table.js';
import type { Content, Directory, FileAt, NodeState, RootUse } from './nodes.js';

/** Nothing is known to the kernel. */
export function newNodes(): NodeState {
  return { owners: [undefined], free: [], contents: new Map(), sharers: new Map() };
}

/**
 * What a table says that another process has left. Nothing is read but the table: directories are opened when they are
 * wanted, and give their files the ids that the kernel knows them by.
 *
 * @param useOf what is counted for a root, or for the directory of all roots
 * @throws NodeTableError
 */
export function restoreNodes(table: NodeTable, useOf: (root: Link | undefined) => RootUse): NodeState {
  const { owners, free, contents, sharers } = newNodes();
  const { places, shares } = table.read();
  const directories = new Map<number, Directory>();
  for (const { serial, parent, position, name, link, metadata, origin } of places) {
    const above = parent === 0 ? undefined : found(directories, parent);
    directories.set(serial, {
      id: 0,
      serial,
      parent: above,
      position,
      use: above ? above.use : useOf(link),
      path: above && above.path !== '' ? `${above.path}/${name}` : name,
      link,
      metadata,
      origin,
      content: undefined,
      children: undefined,
    });
  }

  const live: Directory[] = [];
  const files: number[] = [];
  for (let id = 1; id < table.end(); id++) {
    owners[id] = undefined;
    // Never told, or given back.
    if (table.lookups(id) === 0 && id !== ROOT_NODE) free.push(id);
    else if (table.position(id) !== DIRECTORY) files.push(id);
    else {
      const directory = found(directories, table.place(id));
      directory.id = id;
      owners[id] = directory;
      live.push(directory);
    }
  }
  // A directory's children are in the order of its listing.
  for (const { id, parent, position } of live.sort((a, b) => a.position - b.position)) {
    if (!parent || parent.id === 0) continue;
    parent.children ??= new Map();
    parent.children.set(position, id);
  }

  const byKey = new Map<string, Content>();
  const wanted = new Set(live.map(keyOf));

  function contentOf(opener: Directory): Content {
    const key = keyOf(opener);
    const known = byKey.get(key);
    if (known) return known;
    const { path, use } = opener;
    const content: Content = {
      listing: undefined,
      unlisted: new Map(),
      opener,
      path,
      use,
      users: 0,
      place: opener,
      known: 0,
      pushed: 0,
      other: contents.get(path),
    };
    contents.set(path, content);
    byKey.set(key, content);
    opener.content = content;
    return content;
  }

  const elsewhere = new Map<number, FileAt[]>();
  for (const { id, generation, place, position } of shares) {
    const directory = directories.get(place);
    if (!directory || table.generation(id) !== generation || !wanted.has(keyOf(directory))) continue;
    const places = elsewhere.get(id) ?? [];
    places.push({ content: contentOf(directory), position });
    elsewhere.set(id, places);
  }
  for (const id of files) {
    const own = found(directories, table.place(id));
    const at: FileAt = { content: contentOf(own), position: table.position(id) };
    const others = (elsewhere.get(id) ?? []).filter(
      ({ content, position }, i, all) =>
        (content !== at.content || position !== at.position) &&
        all.findIndex((other) => other.content === content && other.position === position) === i,
    );
    // One whose directory is still there can be read for certain.
    const owner = wanted.has(keyOf(own)) ? at : (others.shift() ?? at);
    const rest = owner === at ? others : [at, ...others];
    if (owner !== at) table.move(id, { place: owner.content.opener.serial, position: owner.position });
    owners[id] = owner.content;
    owner.content.known += 1;
    for (const { content, position } of [owner, ...rest]) content.unlisted?.set(position, id);
    if (rest.length > 0) sharers.set(id, rest);
  }
  for (const directory of live) {
    const content = byKey.get(keyOf(directory));
    if (!content) continue;
    directory.content = content;
    content.place = directory;
    content.users += 1;
  }
  return { owners, free, contents, sharers };
}

/** Of what is the same in all that have it. */
function keyOf({ link = '' as Link, path }: Directory): string {
  return link + path;
}

function found(directories: ReadonlyMap<number, Directory>, serial: number): Directory {
  const directory = directories.get(serial);
  if (!directory) throw new NodeTableError(`there is no place ${serial}`);
  return directory;
}
