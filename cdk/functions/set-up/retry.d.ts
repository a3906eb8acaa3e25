import type { Aws } from './resources';

export function retrying(aws: Aws, sleep: (seconds: number) => Promise<void>): Aws;
