import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { App } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';

import { cloister } from '../lib/cloister';
import { withContainers } from './containers';
import { deployment, temporary } from './fixture';

for (const variant of ['eks', 'ecs', 'identities']) {
  test(`every finding of cdk-nag in ${variant} is fixed or acknowledged with its reason`, () => checkFindings(variant));
}

function checkFindings(variant: string): void {
  const zip = path.join(temporary(), 'front-door.zip');
  fs.writeFileSync(zip, 'a zip');
  const { configuration, releases } = withContainers(
    deployment({
      CDK_VARIANT: variant,
      CDK_FRONT_DOOR: zip,
      CDK_CALLERS: 'arn:aws:iam::111122223333:role/backend',
      ...(variant === 'identities' && { CDK_CLUSTER: 'platform' }),
    }),
  );
  const app = new App();
  cloister(app, configuration, releases);
  const { violations } = new AwsSolutionsChecks(app).validateScope(app);
  const found = violations.flatMap(({ ruleName, violatingResources }) =>
    violatingResources.map((resource) => `${ruleName} ${resource.constructPath ?? resource.locations.join()}`),
  );
  assert.deepEqual(found, []);
}
