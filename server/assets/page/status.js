// Status: whether all is well, how busy it is, what the last day looked like, and who changed what.

import { day, shares } from './charts.js';
import { busy, button, card, chip, el, failure, put, table } from './dom.js';
import { fact, stateChip } from './job.js';
import { address, get, wait } from './http.js';
import { may, session } from './session.js';
import { bytes, count, counted, duration, moment, percent, short } from './words.js';

/** Between two looks, in milliseconds. */
const EVERY = 5000;

/** Classes that get a line of their own. */
const LINES = 4;

/** Entries of the audit log at a time. */
const PAGE = 20;

/** `#/status`. */
export async function show(root, { signal }) {
  const now = el('div', { class: 'stack' });
  const past = el('div', { class: 'stack' });
  const log = el('div');
  put(root, el('h1', {}, 'Status'), now, past, log);
  await look(now, null, signal);
  await Promise.all([yesterday(past, signal), may('admin') && session.data && audit(log, signal)]);
  keepLooking(now, past, signal);
}

async function keepLooking(now, past, signal) {
  let before = null;
  for (let turn = 1; !signal.aborted; turn += 1) {
    await wait(EVERY, signal);
    if (signal.aborted) return;
    // Nobody looks at a hidden page.
    if (document.hidden) continue;
    before = await look(now, before, signal);
    if (turn % 12 === 0) await yesterday(past, signal);
  }
}

/** The state of this moment; gives what the next look compares with. */
async function look(place, before, signal) {
  let status;
  try {
    status = await get('/status', { signal });
  } catch (problem) {
    if (!signal.aborted) put(place, failure(problem, () => look(place, null, signal)));
    return null;
  }
  const at = performance.now();
  const rate = before ? (status.requests.total - before.total) / ((at - before.at) / 1000) : null;
  put(place, health(status), facts(status, rate), jobs(status), disk(status));
  return { at, total: status.requests.total };
}

function health({ status, model, stand_in: standIn, version }) {
  return [
    el('p', { class: 'row' }, status === 'ready' ? chip('ready', 'good') : chip(status, 'warn'),
      el('span', {}, `Ocelli ${version} serves ${model.name}, version `, el('a', { href: `#/evaluate/${model.version}` }, model.version), '.')),
    standIn && el('p', { class: 'notice bad', role: 'alert' }, `Version ${standIn.wanted} should serve and cannot: ${standIn.reason}. Another one stands in for it.`),
  ];
}

function facts({ uptime_s: up, requests, queue, connections, model }, rate) {
  return card('Now', el('dl', { class: 'facts' }, [
    ['Runs for', duration(up)],
    ['Requests/s', rate === null ? '–' : rate.toFixed(1)],
    ['Requests', count(requests.total)],
    ['Refused or failed', count(requests.error)],
    ['Queue', `${count(queue.length)} of ${count(queue.capacity)}`],
    ['Connections', count(connections)],
    ['Threads', count(model.threads)],
    ['Instruction set', model.isa],
  ].map(fact)));
}

function jobs({ jobs: { running, waiting } }) {
  if (!running.length && !waiting) return null;
  return card('Trainings', el('ul', { class: 'plain' }, running.map(({ id, request, state, progress }) =>
    el('li', {}, el('a', { href: `#/train/${id}` }, `Job ${id}: ${request.dataset}`), ' ', stateChip(state), ` ${percent(progress.fraction, 0)}`))),
  waiting > 0 && el('p', { class: 'hint' }, `${counted(waiting, 'training waits', 'trainings wait')}.`));
}

function disk({ storage }) {
  if (!storage) return card('Disk', el('p', {}, 'This service has no data folder: it keeps no images, versions or trainings.'));
  const { images, models, runs, database, quarantine, total, limit } = storage;
  const part = (label, size) => ({ label, size, text: bytes(size) });
  return card('Disk',
    el('p', {}, el('strong', {}, bytes(total)), limit > 0 ? ` of ${bytes(limit)} that it may take` : ' in the data folder'),
    shares('Disk by kind', [part('images', images), part('models', models), part('trainings', runs), part('database', database), part('quarantine', quarantine)]));
}

/** The last day in charts. */
async function yesterday(place, signal) {
  let history;
  try {
    history = await get('/v1/history', { signal });
  } catch (problem) {
    if (!signal.aborted) put(place, failure(problem));
    return;
  }
  const used = history.buckets;
  if (used.length < 2) {
    put(place, card('The last day', el('p', { class: 'hint' }, 'What is asked and answered is counted from now on; the curves begin in some minutes.')));
    return;
  }
  const line = (name, look, of) => ({ name, look, points: used.map((bucket) => [bucket.at, of(bucket)]).filter(([, y]) => y !== null && y !== undefined) });
  const minutes = history.bucket_s / 60;
  put(place, el('h2', {}, 'The last day'), el('div', { class: 'pair' },
    card(`Images in ${counted(minutes, 'minute')}`, day('Images', [line('images', 'main', ({ images }) => images)], count)),
    card('Milliseconds to an answer', day('Time to answer', [line('half of them', 'main', ({ p50_ms: ms }) => ms), line('95 of 100', 'other', ({ p95_ms: ms }) => ms)], short)),
    card('How sure it is', el('p', { class: 'hint' }, 'If this falls, the images have become different from those it learnt from.'),
      day('Mean probability of the answers', [line('mean probability', 'main', ({ mean_confidence: sure }) => sure)], (value) => percent(value, 0))),
    card('What it says', answers(used))));
}

/** The most frequent answers over the day, as parts of each bucket. */
function answers(buckets) {
  const sums = new Map();
  for (const { classes } of buckets) for (const [name, number] of Object.entries(classes)) sums.set(name, (sums.get(name) ?? 0) + number);
  const most = [...sums].sort((a, b) => b[1] - a[1]).slice(0, LINES).map(([name]) => name);
  const busyOnes = buckets.filter(({ images }) => images > 0);
  if (!busyOnes.length) return el('p', { class: 'hint' }, 'No image was asked about.');
  const lines = most.map((name, at) => ({ name, look: `series-${at}`, points: busyOnes.map(({ at: time, images, classes }) => [time, (classes[name] ?? 0) / images]) }));
  return day('Share of each answer', lines, (value) => percent(value, 0));
}

/** Who changed what. */
async function audit(place, signal) {
  const rows = [];
  const body = el('div');
  const more = button('Older entries', { click: (event) => busy(event.target, load) });
  let before = null;
  const load = async () => {
    const page = await get(address('/v1/audit', { before, limit: PAGE }), { signal });
    rows.push(...page.audit.map(({ at, key, action, subject, detail }) => [moment(at), key, action, subject, detail ? told(detail) : '']));
    before = page.next;
    put(body, table('Changes', [{ title: 'When' }, { title: 'Key' }, { title: 'Did' }, { title: 'To' }, { title: 'More' }], rows), before && more);
  };
  await load();
  put(place, card('Who changed what', body));
}

const told = (detail) => Object.entries(detail).filter(([, value]) => value !== null).map(([name, value]) => `${name}: ${value}`).join(', ');
