/** What the pages for operators promise to have. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { App, type Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';

import { cloister } from '../lib/cloister';
import { withContainers } from './containers';
import { deployment, temporary } from './fixture';

test('every alarm has its row, and every row an alarm', () => {
  const page = fs.readFileSync(path.join(__dirname, '../../docs/alarms.md'), 'utf8');
  const table = page.slice(page.indexOf('## Alarms'), page.indexOf('## Troubleshooting'));
  const rows = table.split('\n').flatMap((line) => (/^\| `/.test(line) ? [line.split(' | ')[0] ?? ''] : []));
  const described = rows.flatMap((names) => [...names.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name));
  assert.deepEqual(described.sort(), alarms().sort());
});

/** The names of a deployment's alarms, without its prefix. */
function alarms(): string[] {
  const zip = path.join(temporary(), 'front-door.zip');
  fs.writeFileSync(zip, 'a function');
  const { configuration, releases } = withContainers(deployment({ CDK_FRONT_DOOR: zip }));
  const app = new App();
  cloister(app, configuration, releases);
  const application = app.node.findChild('dev-cloister-application') as Stack;
  const found = Template.fromStack(application).findResources('AWS::CloudWatch::Alarm');
  return Object.values(found).map(({ Properties: { AlarmName: name } }) => String(name).replace('dev-cloister-', ''));
}
