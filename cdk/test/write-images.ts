/**
 * `write-images.ts DIRECTORY`: writes images, container images and a front door of a few bytes each, for synthesis with
 * the configuration of the environment.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';

import { configuration, orExplain } from '../lib/configuration';
import { readReleases } from '../lib/release';
import { withContainers } from './containers';
import { writeImages } from './fixture';

orExplain(() => {
  const [directory = '.'] = process.argv.slice(2);
  const read = configuration(process.env, () => undefined, new Date());
  const images = writeImages(read, { directory });
  withContainers({ configuration: read, releases: readReleases({ ...read, images }) });
  fs.writeFileSync(path.join(directory, 'front-door.zip'), 'no program');
});
