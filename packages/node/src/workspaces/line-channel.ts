import { Socket } from 'node:net';

export interface LineChannel {
  send(message: object): void;
  /** The other end is told that nothing comes any more, whoever else has this end open. */
  end(): void;
}

export interface LineChannelOptions {
  onMessage(message: object): void;
  onClose(): void;
}

/**
 * JSON, a line each, through a connected socket. It may have been somebody else's who was killed: what that one had half
 * written, or half read, is passed over.
 */
export function openLineChannel(descriptor: number, { onMessage, onClose }: LineChannelOptions): LineChannel {
  const socket = new Socket({ fd: descriptor, readable: true, writable: true });
  let text = '';
  socket.setEncoding('utf8').on('data', (part: string) => {
    const lines = (text + part).split('\n');
    text = lines.pop() as string;
    for (const line of lines) {
      const message = parse(line);
      if (message) onMessage(message);
    }
  });
  // Followed by the end of the socket, which is what matters.
  socket.on('error', () => undefined);
  socket.once('close', onClose);
  socket.write('\n');
  return {
    send: (message) => void socket.write(`${JSON.stringify(message)}\n`),
    end: () => void socket.end(),
  };
}

function parse(line: string): object | undefined {
  try {
    return JSON.parse(line) as object;
  } catch {
    return undefined;
  }
}
