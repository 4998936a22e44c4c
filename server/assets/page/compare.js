// Two versions beside each other: their numbers, what changed for each class, and the images whose answer changed.

import { answers } from './answers.js';
import { el, photo, put, table } from './dom.js';
import { get } from './http.js';
import { may } from './session.js';
import { difference } from './verdict.js';
import { bytes, count, counted, number, percent } from './words.js';

/** Images that are shown. */
const SHOWN = 24;

/** Fills `place`. */
export async function compare(place, { before, after, signal }) {
  if (before.version === after.version) {
    put(place, el('p', { class: 'hint' }, 'Choose two different ones.'));
    return;
  }
  const [old, fresh] = await Promise.all([before, after].map((one) => report(one, signal)));
  if (signal.aborted) return;
  const flipped = el('div');
  put(place, numbers([before, after], [old, fresh]), old && fresh && classes(old, fresh), flipped);
  if (!old || !fresh || !may('data')) return;
  try {
    await flips(flipped, [before, after], signal);
  } catch (problem) {
    // Without stored answers everything else is still worth seeing.
    if (!signal.aborted) put(flipped, el('p', { class: 'notice warn' }, problem.message));
  }
}

/** What this service measured of a version; null where it measured nothing. */
async function report({ version, origin }, signal) {
  if (origin !== 'trained') return null;
  try {
    const measured = await get(`/v1/models/${version}/evaluation`, { signal });
    return measured.per_class ? measured : null;
  } catch {
    return null;
  }
}

function numbers([before, after], [old, fresh]) {
  const [one, two] = [before.metrics, after.metrics];
  const change = (a, b) => (a === null || a === undefined || b === null || b === undefined ? '–' : difference(b - a));
  const rows = [
    ['Accuracy', percent(one?.accuracy), percent(two?.accuracy), change(one?.accuracy, two?.accuracy)],
    ['Balanced over classes', percent(old?.balanced_accuracy), percent(fresh?.balanced_accuracy), change(old?.balanced_accuracy, fresh?.balanced_accuracy)],
    ['Loss', number(one?.loss), number(two?.loss), ''],
    ['Measured on', one ? counted(one.images, 'image') : '–', two ? counted(two.images, 'image') : '–', ''],
    ['Classes', count(before.classes.length), count(after.classes.length), ''],
    ['Input (pixels)', `${before.width} × ${before.height}`, `${after.width} × ${after.height}`, ''],
    ['Parameters', count(before.parameters), count(after.parameters), ''],
    ['Size', bytes(before.bytes), bytes(after.bytes), ''],
  ];
  const columns = [{ title: '' }, { title: before.version, number: true }, { title: after.version, number: true }, { title: 'Points', number: true }];
  return [
    before.data_hash !== after.data_hash && el('p', { class: 'notice warn' }, 'They were measured on different images, so the numbers of one do not compare exactly with those of the other.'),
    table('Numbers of both', columns, rows),
  ];
}

function classes(old, fresh) {
  const known = new Map(old.per_class.map((one) => [one.name, one]));
  const rows = fresh.per_class.map(({ name, recall }) => {
    const before = known.get(name);
    return [name, before ? percent(before.recall) : 'unknown to it', percent(recall), before ? difference(recall - before.recall) : ''];
  });
  const gone = old.per_class.filter(({ name }) => !fresh.per_class.some((one) => one.name === name));
  return el('details', { open: rows.length <= 12 }, el('summary', {}, 'Recall, class by class'),
    table('Recall, class by class', [{ title: 'Class' }, { title: 'This one', number: true }, { title: 'That one', number: true }, { title: 'Points', number: true }],
      [...rows, ...gone.map(({ name, recall }) => [name, percent(recall), 'unknown to it', ''])]));
}

/** Images that both were measured on and answered differently. */
async function flips(place, [before, after], signal) {
  const [old, fresh] = await Promise.all([before, after].map(({ version }) => answers(version, signal)));
  if (old.dataset !== fresh.dataset) return;
  const earlier = new Map(old.list.filter(({ image }) => image).map((one) => [one.image, one]));
  const both = fresh.list.filter(({ image }) => earlier.has(image));
  const changed = both
    .map((now) => ({ now, then: earlier.get(now.image) }))
    .filter(({ now, then }) => now.predicted !== then.predicted);
  const better = changed.filter(({ now }) => now.predicted === now.label);
  const worse = changed.filter(({ now, then }) => then.predicted === now.label);
  const tiles = (list) => el('ul', { class: 'thumbs' }, list.slice(0, SHOWN).map(({ now, then }) =>
    el('li', {},
      photo(`/v1/datasets/${encodeURIComponent(fresh.dataset)}/images/${now.image}/thumbnail`, now.label),
      el('span', { class: 'name' }, now.label), el('span', { class: 'hint' }, `${then.predicted} → ${now.predicted}`))));
  put(place,
    el('h3', {}, 'Answers that changed'),
    el('p', { class: 'hint' }, `Of ${counted(both.length, 'image')} that both were measured on, ${count(better.length)} became right and ${count(worse.length)} wrong.`),
    worse.length > 0 && [el('h4', {}, 'Became wrong'), tiles(worse)],
    better.length > 0 && [el('h4', {}, 'Became right'), tiles(better)]);
}
