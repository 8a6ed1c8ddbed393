import { join } from 'node:path';

export const SOCKET_NAME = 'daemon.sock';

export function daemonSocket(home: string): string {
  return join(home, SOCKET_NAME);
}

export function daemonLog(home: string): string {
  return join(home, 'daemon.log');
}
