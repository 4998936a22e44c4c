// Predict: images in, classes out; where the network looks, where the time went, and what it should have said.

import { camera } from './camera.js';
import { bars, shares } from './charts.js';
import { correction } from './correction.js';
import { announce, button, chip, copy, el, empty, failure, put, save } from './dom.js';
import { address, get, postImage } from './http.js';
import { views } from './picture.js';
import { mayChange } from './session.js';
import { snippets } from './snippets.js';
import { counted, milliseconds, percent } from './words.js';

/** Below this probability of the likeliest class an answer is called “not sure”. */
const SURE = 0.6;

/** Requests at a time when several images come at once. */
const AT_ONCE = 2;

/** Most classes that are asked for with “Show more”. */
const MORE = 100;

/** The images of this tab, newest first; they stay when another screen is looked at. */
const shots = [];
let chosen = null;

/** The screen as it is shown now; answers may come after it was left and opened again. */
let current = null;

/** See the module. */
export async function show(root, { signal }) {
  const { model } = await get('/status', { signal });
  const context = { model, signal, strip: el('div'), detail: el('div', { class: 'detail' }) };
  current = context;
  const take = (files) => add(files, context);
  put(root, el('h1', {}, 'What is in the image?'), chooser(take, context), context.strip, context.detail);
  drawAll(context);
  return { drop: take };
}

/** Where images come in. */
function chooser(take, context) {
  const input = el('input', {
    type: 'file', multiple: true, accept: 'image/*,.tif,.tiff,.qoi,.pnm,.ppm,.pgm', class: 'unseen', id: 'images-to-predict',
    on: { change: () => { take([...input.files]); input.value = ''; } },
  });
  return el('section', { class: 'drop', 'aria-label': 'Choose images' },
    el('p', { class: 'lead' }, 'Drop images anywhere on this page, or paste one.'),
    el('div', { class: 'row' }, el('label', { class: 'button primary', for: 'images-to-predict' }, 'Choose images'), input, camera(take, context)));
}

function add(files, context) {
  const fresh = files.map((file) => ({ name: file.name || 'pasted image', file, url: URL.createObjectURL(file), state: 'waiting' }));
  shots.unshift(...fresh);
  chosen = fresh[0];
  drawAll(context);
  const queue = [...fresh];
  for (let worker = 0; worker < AT_ONCE; worker += 1) work(queue);
}

async function work(queue) {
  for (let shot = queue.shift(); shot; shot = queue.shift()) await ask(shot);
}

/** Has an image predicted. */
async function ask(shot, query = {}) {
  try {
    const begun = performance.now();
    shot.answer = await postImage(address('/predict', query), shot.file);
    shot.milliseconds = performance.now() - begun;
    shot.state = 'done';
    if (shot === chosen) announce(`${shot.name}: ${told(shot).words}`);
  } catch (problem) {
    shot.state = 'failed';
    shot.problem = problem;
    if (shot === chosen) announce(`${shot.name}: ${problem.message}`);
  }
  if (!current.signal.aborted) changed(shot, current);
}

/** What an answer says: its words, and `state` `good`, `warn` (not sure) or `bad` (unknown). */
function told({ answer }) {
  const [prediction] = answer.predictions;
  const { label, probability, known, labels } = prediction;
  if (labels) {
    const names = labels.filter(({ applies }) => applies).map((one) => one.label);
    return { title: names.join(', ') || 'None of the labels', state: 'good', badge: '', words: names.join(', ') || 'none of the labels' };
  }
  const likely = `${label}, ${percent(probability, 0)}`;
  if (!known) {
    return {
      title: 'Unknown', state: 'bad', badge: 'none of the classes',
      words: `unknown, probably none of the classes; the closest is ${likely}`,
      about: `Probably none of the classes that this model knows. The closest is “${label}”.`,
    };
  }
  if (probability < SURE) {
    return {
      title: label, state: 'warn', badge: 'not sure', words: `not sure: ${likely}`,
      about: `Not sure: the likeliest class has less than ${percent(SURE, 0)}.`,
    };
  }
  return { title: label, state: 'good', badge: '', words: likely };
}

function drawAll(context) {
  if (!shots.length) {
    put(context.strip);
    put(context.detail, welcome(context.model));
    return;
  }
  if (!shots.includes(chosen)) [chosen] = shots;
  put(context.strip, shots.length > 1 && strip(context));
  put(context.detail, detail(chosen, context));
}

/** Shows what is new of one image; whoever types in the form of another one is not disturbed. */
function changed(shot, context) {
  context.strip.querySelector('.progress')?.replaceWith(answered());
  const tile = context.strip.querySelectorAll('.shots > li')[shots.indexOf(shot)];
  if (tile) {
    const held = tile.contains(document.activeElement);
    const fresh = tileOf(shot, context);
    tile.replaceWith(fresh);
    if (held) fresh.firstElementChild.focus();
  }
  if (shot === chosen) put(context.detail, detail(shot, context));
}

function choose(shot, context) {
  chosen = shot;
  context.strip.querySelectorAll('.shot').forEach((tile, at) => tile.setAttribute('aria-pressed', String(shots[at] === shot)));
  put(context.detail, detail(shot, context));
}

/** What the model knows, before there is an image. */
function welcome({ name, version, classes, input }) {
  const few = classes.slice(0, 60);
  return empty(`${counted(classes.length, 'class', 'classes')} that this model knows`,
    el('ul', { class: 'classes' }, few.map((text) => el('li', {}, text)), classes.length > few.length && el('li', {}, `and ${classes.length - few.length} more`)),
    el('p', { class: 'hint' }, `${name}, version ${version}. It sees images at ${input.width} × ${input.height} pixels, ${input.channels === 1 ? 'in gray' : 'in colour'}.`),
    mayChange('data') && el('p', {}, 'Other things to tell apart? ', el('a', { href: '#/data' }, 'Show it your own images'), ' and train it on them.'));
}

/** All images, to choose one from. */
function strip(context) {
  return el('section', { 'aria-label': 'Results' },
    el('div', { class: 'row between' },
      answered(),
      el('div', { class: 'row' },
        button('Save as CSV', { kind: 'quiet', click: () => save('predictions.csv', new Blob([csv()], { type: 'text/csv' })) }),
        button('Clear', { kind: 'quiet', click: () => clear(context) }))),
    el('ul', { class: 'shots' }, shots.map((shot) => tileOf(shot, context))));
}

const done = () => shots.filter(({ state }) => state === 'done');

const answered = () => el('p', { class: 'hint progress' }, `${counted(shots.length, 'image')}, ${done().length} answered`);

function tileOf(shot, context) {
  const said = () => {
    if (shot.state === 'failed') return el('span', { class: 'said bad' }, 'cannot be read');
    if (shot.state === 'waiting') return el('span', { class: 'said' }, 'waiting …');
    const { title, state } = told(shot);
    const [{ known, labels, probability }] = shot.answer.predictions;
    return el('span', { class: `said ${state}` }, title, known && !labels && ` ${percent(probability, 0)}`);
  };
  return el('li', {},
    el('button', { type: 'button', class: 'shot', 'aria-pressed': String(shot === chosen), on: { click: () => choose(shot, context) } },
      picture(shot, ''), el('span', { class: 'name' }, shot.name), said()));
}

function clear(context) {
  for (const { url } of shots.splice(0)) URL.revokeObjectURL(url);
  drawAll(context);
}

function csv() {
  // A leading sign would make a formula of a name in a spreadsheet.
  const cell = (text) => `"${String(text).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const line = ({ name, answer }) => [cell(name), cell(answer.label), answer.probability, answer.predictions[0].known, cell(answer.model.version)].join(',');
  return ['name,label,probability,known,version', ...done().map(line)].join('\r\n');
}

/** The image; browsers do not show every format that the service reads. */
function picture(shot, alt) {
  const gone = () => image.replaceWith(el('span', { class: 'gone' }, 'no preview of this format'));
  const image = el('img', { src: shot.url, alt, on: { error: gone } });
  return image;
}

/** One image and all that is known of it. */
function detail(shot, context) {
  if (shot.state === 'waiting') {
    return el('section', { class: 'answer' }, el('div', { class: 'look' }, picture(shot, shot.name)), el('p', { role: 'status' }, 'Waiting for the answer …'));
  }
  const again = () => { shot.state = 'waiting'; changed(shot, context); ask(shot); };
  if (shot.state === 'failed') {
    return el('section', { class: 'answer' }, el('div', { class: 'look' }, picture(shot, shot.name)), failure(shot.problem, again));
  }
  const words = told(shot);
  return el('section', { class: 'answer', 'aria-label': `Answer for ${shot.name}` },
    views(shot, () => picture(shot, shot.name), context),
    el('div', { class: 'stack' },
      el('div', {},
        el('p', { class: 'hint' }, shot.name),
        el('h2', { class: 'verdict' }, words.title, words.badge && chip(words.badge, words.state)),
        words.about && el('p', { class: 'hint' }, words.about)),
      ranking(shot, context),
      times(shot),
      correction(shot, context),
      el('details', {}, el('summary', {}, 'The same from your own program'), snippets(shot)),
      el('div', { class: 'row' },
        button('Copy as JSON', { kind: 'quiet', click: () => copy(JSON.stringify(shot.answer, null, 2), 'The answer') }))));
}

/** The likeliest classes, or all labels of a model that says any number of them. */
function ranking(shot, context) {
  const [{ top, labels, known }] = shot.answer.predictions;
  if (labels) {
    const rows = labels.map(({ label, probability, threshold, applies }) => ({ label, share: probability, text: percent(probability), main: applies, mark: threshold }));
    return el('div', {}, bars(rows), el('p', { class: 'hint' }, 'A label applies from its threshold on, the line in its bar.'));
  }
  const rows = top.map(({ label, probability }, at) => ({ label, share: probability, text: percent(probability), main: at === 0 && known }));
  const most = Math.min(MORE, context.model.classes.length);
  const more = button('Show more classes', { kind: 'quiet', click: () => { more.disabled = true; ask(shot, { top_k: most }); } });
  return el('div', {}, bars(rows), top.length < most && more);
}

/** Where the time went. */
function times(shot) {
  const { decode, queue, compute, total } = shot.answer.timing_ms;
  const rest = Math.max(0, total - decode - queue - compute);
  const way = Math.max(0, shot.milliseconds - total);
  const part = (label, size) => ({ label, size, text: milliseconds(size) });
  return el('div', {},
    el('p', { class: 'hint' }, `Answered in ${milliseconds(shot.milliseconds)} by version `, el('a', { href: `#/evaluate/${shot.answer.model.version}` }, shot.answer.model.version)),
    shares('Where the time went', [part('reading the image', decode), part('waiting', queue), part('the network', compute), part('the service', rest), part('transfer', way)]));
}
