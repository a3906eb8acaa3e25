// One process of a run: newman runners side by side. The parent sends what to do, this sends what happened.

import { join } from 'node:path';

import newman from 'newman';

const COLLECTION = new URL('cloister.postman_collection.json', import.meta.url).pathname;

process.once('message', async ({ folder, environment, runners, reports }) => {
  await Promise.all(runners.map((runner) => run(folder, environment, runner, reports)));
  process.disconnect();
});

function run(folder, environment, runner, reports) {
  const report = {
    export: join(reports, `runner-${runner}.html`),
    title: `Cloister: ${folder}, runner ${runner}`,
    browserTitle: `Cloister: ${folder}`,
    // No body, no header, no variable: reports are passed around, and all three hold secrets.
    skipSensitiveData: true,
    noSyntaxHighlighting: true,
  };
  return new Promise((resolve) => {
    newman
      .run(
        {
          collection: COLLECTION,
          environment: structuredClone(environment),
          folder,
          reporters: ['htmlextra'],
          reporter: { htmlextra: report },
        },
        (error) => {
          if (error) process.send({ failure: { request: '(newman)', message: error.message } });
          resolve();
        },
      )
      .on('request', (error, { item, response }) => {
        if (error) process.send({ failure: { request: item.name, message: error.message } });
        else
          process.send({ sample: { request: item.name, status: response.code, milliseconds: response.responseTime } });
      })
      .on('assertion', (error, { item, assertion }) => {
        if (error) process.send({ failure: { request: item.name, message: assertion, example: error.message } });
        else process.send({ assertion: true });
      })
      .on('script', (error, { item }) => {
        if (error) process.send({ failure: { request: item.name, message: `its script failed: ${error.message}` } });
      });
  });
}
