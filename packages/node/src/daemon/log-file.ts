import fs from 'node:fs';

const MAX_BYTES = 8 << 20;

export interface LogFile {
  write(line: string): void;
  /** For what the process itself has to say before it dies. */
  readonly fd: number;
}

/**
 * Appends lines to a file. One that has become long gets the name `FILE.1`, where an older one was: two of them are
 * all there ever is. What cannot be written (a full disk) is lost, and stops nothing.
 */
export function openLogFile(file: string, maxBytes = MAX_BYTES): LogFile {
  let fd = fs.openSync(file, 'a', 0o600);
  let bytes = fs.fstatSync(fd).size;

  function turn(): void {
    fs.renameSync(file, `${file}.1`);
    fs.closeSync(fd);
    fd = fs.openSync(file, 'a', 0o600);
    bytes = 0;
  }

  return {
    get fd() {
      return fd;
    },
    write(line) {
      try {
        if (bytes > 0 && bytes + line.length > maxBytes) turn();
        bytes += fs.writeSync(fd, line);
      } catch {
        // There is nowhere to say it.
      }
    },
  };
}
