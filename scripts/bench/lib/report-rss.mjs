// Preloaded into a process whose memory is measured: at its end, writes the most it ever had in memory, in bytes,
// to the file that LAZYTREE_BENCH_RSS names. Read from /proc: ru_maxrss starts with what the parent of the process
// had, so that a large parent would be measured in its place.
import { readFileSync, writeFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const file = process.env.LAZYTREE_BENCH_RSS;
if (isMainThread && file) {
  process.on('exit', () => {
    const kibibytes = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    writeFileSync(file, String(Number(kibibytes) * 1024));
  });
}
