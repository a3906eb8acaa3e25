// A run in numbers.

const PERCENTILES = [50, 90, 99];

/** Counts the messages of the processes. */
export function summarize(messages, { folder, runners, rounds, seconds }) {
  const samples = messages.flatMap(({ sample }) => (sample ? [sample] : []));
  const names = [...new Set(samples.map(({ request }) => request))];
  return {
    folder,
    runners,
    rounds,
    seconds,
    requests: samples.length,
    assertions: messages.filter(({ assertion, failure }) => assertion || failure).length,
    failures: grouped(messages.flatMap(({ failure }) => (failure ? [failure] : []))),
    samples,
    percentiles: PERCENTILES,
    latencies: names.map((request) =>
      latency(
        request,
        samples.filter((sample) => sample.request === request),
      ),
    ),
  };
}

/** The smallest value that at least `percent` of the sorted `values` do not exceed (nearest rank). */
export const percentile = (values, percent) => values[Math.max(0, Math.ceil((percent / 100) * values.length) - 1)];

function latency(request, samples) {
  const sorted = samples.map(({ milliseconds }) => milliseconds).sort((a, b) => a - b);
  return {
    request,
    count: sorted.length,
    percentiles: PERCENTILES.map((percent) => percentile(sorted, percent)),
    longest: sorted.at(-1),
  };
}

/** Equal failures once, with their number and the text of the first. */
function grouped(failures) {
  const groups = new Map();
  for (const { request, message, example } of failures) {
    const line = `${request}: ${message}`;
    const group = groups.get(line) ?? { line, example, count: 0 };
    groups.set(line, { ...group, count: group.count + 1 });
  }
  return [...groups.values()];
}

/** For a terminal. */
export function text(summary) {
  const failed = summary.failures
    .slice(0, 20)
    .map(({ line, example, count }) => `FAILED ${count}×  ${line}${example ? ` (${example})` : ''}`);
  const more = summary.failures.length > 20 ? [`… and ${summary.failures.length - 20} more kinds of failures`] : [];
  const rows = summary.folder === 'load' ? ['', ...table(summary)] : [];
  return [...failed, ...more, headline(summary), ...rows].join('\n');
}

function headline({ folder, runners, rounds, requests, assertions, failures, seconds }) {
  const failed = failures.reduce((sum, { count }) => sum + count, 0);
  const counts = `${requests} requests, ${assertions} assertions, ${failed} failed, ${seconds.toFixed(1)} s`;
  if (folder !== 'load') return counts;
  const rate = (number) => (number / seconds).toFixed(1);
  return `${runners} runners × ${rounds} rounds: ${counts}; ${rate(requests)} requests/s, ${rate(runners * rounds)} rounds/s`;
}

function table({ latencies }) {
  const header = ['request', 'count', ...PERCENTILES.map((percent) => `p${percent} ms`), 'max ms'];
  const rows = latencies.map(({ request, count, percentiles, longest }) =>
    [request, count, ...percentiles, longest].map(String),
  );
  const widths = header.map((_, column) => Math.max(...[header, ...rows].map((row) => row[column].length)));
  return [header, ...rows].map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join('  '),
  );
}
