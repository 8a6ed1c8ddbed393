import { workerData } from 'node:worker_threads';
import { segmentPath } from '../store/segments.js';
import { serveJobs } from '../threads/serve.js';
import { createFileWriter, type WriteJob, type WrittenFiles } from './write-files.js';

const writeFiles = createFileWriter((segment) => segmentPath(workerData.segments, segment));

serveJobs<WriteJob, WrittenFiles>(async (job) => writeFiles(job));
