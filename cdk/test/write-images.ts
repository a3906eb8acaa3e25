/** `write-images.ts DIRECTORY`: images, container images and a front door for the configuration of the environment, a few bytes each, to synthesize from. */

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
