import { parentPort } from 'node:worker_threads';
import { createSurveyWalk, type SurveyData } from './survey-walk.js';

parentPort?.on('message', (data: SurveyData) => {
  const { step } = createSurveyWalk(data, { helper: true });
  while (step());
});
