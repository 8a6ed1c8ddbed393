// The facts without which a number means nothing. Nothing that names the machine or where things are on it.
import { cpus, release, totalmem, type } from 'node:os';
import { peerFacts } from './peers.mjs';

/** @param {number} rounds */
export function machineFacts(rounds) {
  const processors = cpus();
  return {
    date: new Date().toISOString().slice(0, 10),
    cores: processors.length,
    processor: processors[0]?.model.trim() ?? 'unknown',
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: `${type()} ${release()}`,
    node: process.version,
    rounds,
    peers: peerFacts(),
  };
}

/** @typedef {ReturnType<typeof machineFacts>} Machine */
