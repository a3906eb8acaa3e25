/** Facts that CDK shares with the programs: `contract.json`, which a test of `crates/contract` generates. */

import * as fs from 'node:fs';
import * as path from 'node:path';

interface Contract {
  /** Values of the field `event` in the logs of front door, pods and enclaves. */
  readonly events: readonly string[];
  /** CloudWatch metrics that pods write about their enclaves, in percent. */
  readonly metrics: Readonly<Record<'namespace' | 'cpuUser' | 'cpuSystem' | 'memoryUsed' | 'memoryCached', string>>;
  readonly ports: Readonly<Record<'podHttps' | 'podHealth' | 'heartbeat' | 'log' | 'requests', number>>;
  readonly services: readonly string[];
}

export const CONTRACT = JSON.parse(
  fs.readFileSync(path.join(__dirname, '../contract.json'), 'utf8'),
) as unknown as Contract;
