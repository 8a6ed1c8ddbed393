import { Worker } from 'node:worker_threads';
import type { SurveyData } from './survey-walk.js';

/** It stays so long for the next survey: to start it takes a good part of what it saves. */
const IDLE_MS = 60_000;

let thread: Worker | undefined;
let idle: NodeJS.Timeout | undefined;

/** Has a thread look at a directory from the other end. Without it a survey is slower and no less right. */
export function helpSurvey(data: SurveyData): void {
  thread ??= startThread();
  thread.postMessage(data);
  clearTimeout(idle);
  idle = setTimeout(endThread, IDLE_MS).unref();
}

function startThread(): Worker {
  const script = new URL('./survey-thread.js', import.meta.url);
  const started = new Worker(script, { stdin: false, execArgv: [] });
  const forget = () => {
    if (thread === started) thread = undefined;
  };
  started.on('error', forget);
  started.on('exit', forget);
  started.unref();
  return started;
}

function endThread(): void {
  void thread?.terminate();
  thread = undefined;
}
