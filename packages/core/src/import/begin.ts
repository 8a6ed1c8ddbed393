/**
 * `@lazytree/core/survey`: what a program needs to begin a survey, which can be under way while it loads the rest.
 * What is imported here is on the way to that, so it has to be little.
 */
export { statCacheFile } from './stat-caches.js';
export { beginSurvey } from './survey.js';
