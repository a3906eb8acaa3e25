/** All stacks of a deployment. */

import type { App } from 'aws-cdk-lib';

import type { Configuration } from './configuration';
import type { Release } from './release';

export function cloister(_app: App, _configuration: Configuration, _release: Release): void {}
