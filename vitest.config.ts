import { defineConfig } from 'vitest/config';

// Tests run against the built packages (workers need real .js files): build first, `npm test` does.
// groupOrder starts at 1: vitest runs group 0 last when it has a single worker.
const common = { pool: 'forks', testTimeout: 120_000, hookTimeout: 120_000 } as const;

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['packages/*/src/**/*.test.ts', 'packages/*/test/**/*.test.ts'],
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...common,
          name: 'e2e',
          include: ['test/**/*.test.ts'],
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
