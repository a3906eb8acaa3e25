// The library of the collection's scripts: `const cloister = new Function(pm.collectionVariables.get('cloister_js'))();`

export { createdKey, importedKey, refused, refusedByGateway, signedHash, signedTransaction } from './assertions.mjs';
export { authenticated } from './authentication.mjs';
