// Compares key policies by their meaning: KMS may return a list of one value as that value, an account's root as the
// account's number, and members in another order.

const { createHash } = require('node:crypto');

/** One `SID=DIGEST` for each statement, and one for what surrounds them. */
exports.digests = (text) => {
  const { Statement, ...document } = JSON.parse(text);
  return [
    `${DOCUMENT}=${digest(document)}`,
    ...[Statement].flat().map((statement) => `${statement.Sid}=${digest(withPrincipal(statement))}`),
  ];
};

/** The statements that are missing, and those that do not belong to the policy with these digests. */
exports.difference = (text, expected) => {
  let found;
  try {
    found = exports.digests(text);
  } catch {
    return { missing: [], unexpected: ['not a policy'] };
  }
  return {
    missing: without(expected, found),
    unexpected: [...without(found, expected), ...(memberTwice(text) ? ['a member twice'] : [])],
  };
};

const DOCUMENT = 'document';

function without(some, others) {
  const rest = [...others];
  return some
    .filter((entry) => {
      const at = rest.indexOf(entry);
      if (at >= 0) rest.splice(at, 1);
      return at < 0;
    })
    .map((entry) => entry.slice(0, entry.lastIndexOf('=')));
}

function digest(value) {
  return createHash('sha256')
    .update(JSON.stringify(canonical(value)))
    .digest('hex');
}

/** Members in one order, and every value as a list in one order. */
function canonical(value) {
  if (isObject(value)) {
    return Object.entries(value)
      .map(([name, member]) => [name, canonical(member)])
      .sort(byText);
  }
  return [value]
    .flat()
    .map((item) => (isObject(item) ? canonical(item) : item))
    .sort(byText);
}

/** The account's root and `"*"` in one form each. */
function withPrincipal({ Principal, ...statement }) {
  if (Principal === undefined) {
    return statement;
  }
  const { AWS, ...others } = Principal === '*' ? { AWS: '*' } : Principal;
  const accounts = [AWS ?? []].flat().map((principal) => principal.replace(/^arn:[^:]+:iam::(\d{12}):root$/, '$1'));
  return { ...statement, Principal: { ...others, AWS: accounts } };
}

/** JSON.parse keeps the last of two members with one name, so that text has more names than the object. */
function memberTwice(text) {
  const names = [...text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/g)].filter(([, colon]) => colon !== undefined);
  return names.length !== members(JSON.parse(text));
}

function members(value) {
  const inside = Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [];
  return inside.reduce((sum, item) => sum + members(item), isObject(value) ? inside.length : 0);
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function byText(one, other) {
  const [a, b] = [JSON.stringify(one), JSON.stringify(other)];
  return a < b ? -1 : a > b ? 1 : 0;
}
