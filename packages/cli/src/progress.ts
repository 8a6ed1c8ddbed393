import { formatBytes } from './output.js';

/** A bar on the terminal, or nothing where stderr is not one. */
export interface Progress {
  update(state: { files: number; bytes: number; totalFiles?: number; totalBytes?: number }): void;
  stop(): void;
}

const SILENT: Progress = { update: () => undefined, stop: () => undefined };
const RATE_WINDOW_MS = 3000;

/** A bar with files, bytes and rate on a terminal; nothing anywhere else. */
export async function createProgress(label: string): Promise<Progress> {
  if (!process.stderr.isTTY) return SILENT;
  const { default: progressBars } = await import('cli-progress');
  const bar = new progressBars.SingleBar(
    {
      format: `${label} {bar} {files} files  {bytes}  {rate}`,
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
      etaBuffer: 1,
      fps: 10,
    },
    progressBars.Presets.rect,
  );
  bar.start(1, 0, { files: '0', bytes: '0 B', rate: '' });
  const samples: { time: number; bytes: number }[] = [];
  return {
    update({ files, bytes, totalFiles, totalBytes }) {
      const now = performance.now();
      samples.push({ time: now, bytes });
      while (samples.length > 2 && samples[0].time < now - RATE_WINDOW_MS) samples.shift();
      const [first] = samples;
      const seconds = (now - first.time) / 1000;
      const rate = seconds > 0.2 ? `${formatBytes((bytes - first.bytes) / seconds)}/s` : '';
      bar.setTotal(Math.max(totalBytes ?? totalFiles ?? 1, 1));
      const done = totalBytes === undefined ? files : bytes;
      const of = totalFiles === undefined ? '' : ` of ${totalFiles}`;
      bar.update(done, { files: `${files}${of}`, bytes: formatBytes(bytes), rate });
    },
    stop: () => bar.stop(),
  };
}
