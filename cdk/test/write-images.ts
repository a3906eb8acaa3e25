/**
 * `write-images.ts DIRECTORY [VERSION]`: writes images, container images and a front door of a few bytes each, for
 * synthesis with the configuration of the environment. Images of another version have other measurements.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';

import { configuration, orExplain } from '../lib/configuration';
import { readReleases } from '../lib/release';
import { withContainers } from './containers';
import { writeImages } from './fixture';

orExplain(() => {
  const [directory = '.', version = 'one'] = process.argv.slice(2);
  const read = configuration(process.env, () => undefined, new Date());
  const images = writeImages(read, { directory, version });
  withContainers({ configuration: read, releases: readReleases({ ...read, images }) });
  fs.writeFileSync(path.join(directory, 'front-door.zip'), 'no program');
});
