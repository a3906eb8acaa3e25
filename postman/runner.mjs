// One process of a run: newman runners side by side. The parent sends the task, this sends what happened.

import newman from 'newman';

const COLLECTION = new URL('cloister.postman_collection.json', import.meta.url).pathname;

process.once('message', async ({ folder, environment, runners }) => {
  await Promise.all(runners.map(() => run(folder, environment)));
  process.disconnect();
});

/** Sends names, states and times only: bodies, headers and variables hold secrets. */
function run(folder, environment) {
  const options = { collection: COLLECTION, environment: structuredClone(environment), folder, reporters: [] };
  return new Promise((resolve) => {
    newman
      .run(options, (error) => {
        if (error) process.send({ failure: { request: '(newman)', message: error.message } });
        resolve();
      })
      .on('request', (error, { item, response }) => {
        if (error) return process.send({ failure: { request: item.name, message: error.message } });
        const { code: status, responseTime: milliseconds } = response;
        process.send({ sample: { request: item.name, status, milliseconds, at: Date.now() } });
      })
      .on('assertion', (error, { item, assertion }) => {
        if (error) process.send({ failure: { request: item.name, message: assertion, example: error.message } });
        else process.send({ assertion: true });
      })
      .on('script', (error, { item }) => {
        if (error) process.send({ failure: { request: item.name, message: error.message } });
      });
  });
}
