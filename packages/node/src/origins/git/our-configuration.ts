/**
 * What git is told whatever the user's configuration says: nothing runs behind our back, what is fetched stays in a pack,
 * and a connection on which nothing comes ends.
 */
export const OUR_CONFIGURATION: readonly string[] = [
  ['core.hooksPath', '/dev/null'],
  ['core.fsmonitor', 'false'],
  ['gc.auto', '0'],
  ['maintenance.auto', 'false'],
  ['fetch.unpackLimit', '1'],
  ['transfer.unpackLimit', '1'],
  ['fetch.writeCommitGraph', 'false'],
  ['fetch.prune', 'false'],
  ['fetch.pruneTags', 'false'],
  ['fetch.recurseSubmodules', 'false'],
  ['http.lowSpeedLimit', '1'],
  ['http.lowSpeedTime', '120'],
].flatMap(([name, value]) => ['-c', `${name}=${value}`]);
