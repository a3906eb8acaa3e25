// The scripts of the collection. They are functions here and text in the collection, so they may use only `pm` and
// `cloister`.

// An undeclared variable survives a script in the sandbox. Where it does not, the library is parsed again, in 10 ms.
const LIBRARY =
  "const cloister = typeof cloister_library === 'object' ? cloister_library : (cloister_library = new Function(pm.collectionVariables.get('cloister_js'))());";

/** A script that runs after the answer. */
export const test = (script) => ({ listen: 'test', script: source(script, LIBRARY) });

/** A script that runs before the request. */
export const before = (script) => ({ listen: 'prerequest', script: source(script) });

/** The same with the library. */
export const beforeWithLibrary = (script) => ({ listen: 'prerequest', script: source(script, LIBRARY) });

/** The lines of a function's body, unindented. */
function source(script, ...first) {
  const text = script.toString();
  const body = text.includes('=> {')
    ? text.slice(text.indexOf('=> {') + 4, text.lastIndexOf('}'))
    : text.slice(text.indexOf('=>') + 2).trim() + ';';
  const lines = body
    .split('\n')
    .filter((line, index, all) => line.trim() !== '' || (index > 0 && index < all.length - 1));
  const indent = Math.min(...lines.filter((line) => line.trim() !== '').map((line) => line.search(/\S/)));
  return { type: 'text/javascript', exec: [...first, ...lines.map((line) => line.slice(indent))] };
}
