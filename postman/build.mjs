// Builds the collection from its sources; with --check it compares instead.

import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

import { collection } from './collection/collection.mjs';

const TARGET = new URL('cloister.postman_collection.json', import.meta.url);

/** The collection's text. The same sources and lock file always give the same bytes. */
export async function render() {
  return `${JSON.stringify(collection(await bundle()), undefined, 2)}\n`;
}

/** The sandbox's library as the body of a function. */
export async function bundle() {
  const { outputFiles } = await build({
    absWorkingDir: fileURLToPath(new URL('.', import.meta.url)),
    entryPoints: ['sandbox/main.mjs'],
    inject: ['sandbox/text-encoding.mjs'],
    bundle: true,
    minify: true,
    write: false,
    format: 'iife',
    globalName: 'cloister',
    target: 'es2020',
    charset: 'ascii',
    legalComments: 'inline',
    footer: { js: 'return cloister;' },
  });
  return outputFiles[0].text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = await render();
  if (!process.argv.includes('--check')) {
    await writeFile(TARGET, text);
  } else if ((await readFile(TARGET, 'utf8')) !== text) {
    console.error(
      'cloister.postman_collection.json does not match its sources: run `npm run build` in postman/ and commit the result',
    );
    process.exitCode = 1;
  }
}
