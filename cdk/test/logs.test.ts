/** Log groups of functions: gone once their stack is deleted. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ofType, stacks } from './stacks';

for (const variant of ['eks', 'ecs'] as const) {
  test(`every function of ${variant} writes to a log group of its stack, and no log group stays`, () => {
    let functions = 0;
    for (const [stack, resources] of stacks(variant)) {
      for (const [id, { Properties }] of ofType(resources, 'AWS::Lambda::Function')) {
        functions += 1;
        const { LogGroup } = (Properties['LoggingConfig'] ?? {}) as { LogGroup?: { Ref?: string } };
        assert.equal(resources[LogGroup?.Ref ?? '']?.Type, 'AWS::Logs::LogGroup', `${stack}: ${id}`);
      }
      for (const [id, { DeletionPolicy, Properties }] of ofType(resources, 'AWS::Logs::LogGroup')) {
        assert.equal(DeletionPolicy, 'Delete', `${stack}: ${id}`);
        assert.ok(Number(Properties['RetentionInDays']) <= 365, `${stack}: ${id} keeps its lines for a year at most`);
      }
    }
    assert.ok(functions >= 3);
  });
}
