// The HTML report of a run: one page without scripts, styles or images of other hosts.

import { text } from './summary.mjs';

/**
 * The page. `endpoint` is shown without credentials and query; request and response bodies, headers and variables are
 * not part of a summary, because they hold secrets.
 */
export function html(summary, { endpoint, started }) {
  const title = `Cloister: ${summary.folder}`;
  const failed = summary.failures.length > 0;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>${title}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 62em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: 0.2em 0.8em; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
pre { overflow-x: auto }
.passed { color: #186a3b }
.failed { color: #b03a2e }
</style>
<h1>${title}: <span class="${failed ? 'failed' : 'passed'}">${failed ? 'failed' : 'passed'}</span></h1>
<table>
<tr><th>date</th><td>${started.toISOString()}</td></tr>
<tr><th>endpoint</th><td>${escaped(address(endpoint))}</td></tr>
<tr><th>requests</th><td>${summary.requests}</td></tr>
<tr><th>assertions</th><td>${summary.assertions}</td></tr>
</table>
<pre>${escaped(text(summary))}</pre>
<h2>Response times</h2>
${latencies(summary)}
${chart(summary, started)}
${summary.folder === 'load' ? '' : requests(summary)}</html>
`;
}

/** A URL without user, password and query. */
export function address(endpoint) {
  const { protocol, host, pathname } = new URL(endpoint);
  return `${protocol}//${host}${pathname === '/' ? '' : pathname}`;
}

function latencies({ latencies: rows, percentiles }) {
  const header = ['request', 'count', ...percentiles.map((percent) => `p${percent} ms`), 'max ms'];
  const cells = rows.map(({ request, count, percentiles: values, longest }) => [request, count, ...values, longest]);
  return table(header, cells);
}

function requests({ samples }) {
  const rows = samples.map(({ request, status, milliseconds }) => [request, status, milliseconds]);
  return `<h2>Requests</h2>\n${table(['request', 'status', 'ms'], rows)}\n`;
}

function table(header, rows) {
  const line = (tag, cells) => `<tr>${cells.map((cell) => `<${tag}>${escaped(String(cell))}</${tag}>`).join('')}</tr>`;
  return `<table>\n${[line('th', header), ...rows.map((row) => line('td', row))].join('\n')}\n</table>`;
}

/** Every response as a point: when it came, and after how many milliseconds. */
function chart({ samples, latencies: kinds }, started) {
  if (samples.length === 0) return '';
  const shown = samples
    .filter((_, index) => index % Math.ceil(samples.length / MOST_POINTS) === 0)
    .map((sample) => ({ ...sample, at: sample.at - started.getTime() }));
  const longest = Math.max(...shown.map(({ milliseconds }) => milliseconds), 1);
  const end = Math.max(...shown.map(({ at }) => at), 1);
  const x = (at) => (LEFT + (at / end) * (WIDTH - LEFT)).toFixed(1);
  const y = (milliseconds) => (HEIGHT - BOTTOM - (milliseconds / longest) * (HEIGHT - 2 * BOTTOM)).toFixed(1);
  const colour = (request) => COLOURS[kinds.findIndex((kind) => kind.request === request) % COLOURS.length];
  const lines = [0, 0.5, 1].map((part) => {
    const milliseconds = longest * part;
    return (
      `<line x1="${LEFT}" x2="${WIDTH}" y1="${y(milliseconds)}" y2="${y(milliseconds)}" stroke="#ddd"/>` +
      `<text x="${LEFT - 6}" y="${y(milliseconds)}" text-anchor="end">${Math.round(milliseconds)} ms</text>`
    );
  });
  const points = shown.map(
    ({ request, at, milliseconds }) =>
      `<circle cx="${x(at)}" cy="${y(milliseconds)}" r="2" fill="${colour(request)}"/>`,
  );
  const legend =
    kinds.length > COLOURS.length
      ? []
      : kinds.map(({ request }) => `<span style="color:${colour(request)}">●</span> ${escaped(request)}`);
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="response times over the run" font-size="12">
${lines.join('\n')}
<text x="${LEFT}" y="${HEIGHT - 4}">0 s</text>
<text x="${WIDTH}" y="${HEIGHT - 4}" text-anchor="end">${(end / 1000).toFixed(1)} s</text>
${points.join('\n')}
</svg>
<p>${legend.join(' &nbsp; ')}</p>`;
}

const escaped = (plain) => plain.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [900, 260, 70, 24];
/** A page stays readable, and below a megabyte. */
const MOST_POINTS = 5000;
const COLOURS = ['#2e86c1', '#d35400', '#7d3c98', '#229954'];
