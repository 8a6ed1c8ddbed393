import { workerData } from 'node:worker_threads';
import { createSurveyWalk, type SurveyData } from './survey-walk.js';

const data: SurveyData = workerData;
const { step } = createSurveyWalk(data, { helper: true });
while (step());
