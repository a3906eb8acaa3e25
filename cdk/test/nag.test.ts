import assert from 'node:assert/strict';
import { test } from 'node:test';

import { App } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';

import { cloister } from '../lib/cloister';
import { deployment } from './fixture';

test('every finding of cdk-nag is put right or acknowledged with its reason', () => {
  const { configuration, releases } = deployment();
  const app = new App();
  cloister(app, configuration, releases);
  const { violations } = new AwsSolutionsChecks(app).validateScope(app);
  const found = violations.flatMap(({ ruleName, violatingResources }) => violatingResources.map((resource) => `${ruleName} ${resource.constructPath ?? resource.locations.join()}`));
  assert.deepEqual(found, []);
});
