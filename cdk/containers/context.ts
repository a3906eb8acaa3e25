/** `context.ts IMAGES SERVICE PROGRAM`: lays out the Dockerfile's inputs. `cargo xtask containers` calls it. */

import { ConfigurationError } from '../lib/configuration';
import { writeContext } from '../lib/containers';
import type { Service } from '../lib/release';

const [images, service, program] = process.argv.slice(2);
try {
  console.log(writeContext(images ?? '', service as Service, program ?? ''));
} catch (error) {
  if (!(error instanceof ConfigurationError)) {
    throw error;
  }
  console.error(error.message);
  process.exit(1);
}
