// One request of the collection.

/** A request with its scripts; a `body` that is not text is written as JSON. */
export const request = (name, method, path, { body, auth, events = [], description } = {}) => ({
  name,
  event: events,
  request: {
    method,
    ...(auth && { auth }),
    ...(description && { description }),
    header: body === undefined ? [] : [{ key: 'Content-Type', value: 'application/json' }],
    ...(body !== undefined && {
      body: {
        mode: 'raw',
        raw: typeof body === 'string' ? body : JSON.stringify(body, undefined, 2),
        options: { raw: { language: 'json' } },
      },
    }),
    url: { raw: `{{base_url}}${path}`, host: ['{{base_url}}'], path: path.slice(1).split('/') },
  },
  response: [],
});

/** Items under a name. */
export const folder = (name, description, item) => ({ name, description, item });

/** A transfer of 0.01 ether, its amount in wei. */
export const TRANSACTION = {
  valueWei: '10000000000000000',
  to: '0xa5D3241A1591061F2a4bB69CA0215F66520E67cf',
  nonce: 0,
  type: 2,
  chainId: 4,
  gas: 100000,
  maxFeePerGas: 100000000000,
  maxPriorityFeePerGas: 3000000000,
};
