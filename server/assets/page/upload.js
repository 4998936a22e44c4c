// Adding images: choose, look at what would be added, then send it. Nothing is kept before the last step.

import { button, card, el, failure, field, put, suggesting, table } from './dom.js';
import { findings } from './findings.js';
import { address, upload } from './http.js';
import { bytes, count, counted, percent } from './words.js';
import { zip } from './zip.js';

/** Files that systems leave in folders. */
const LITTER = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$|desktop\.ini$)/i;

/** Skipped files that are shown by name. */
const SHOWN = 50;

/** A card that takes archives and folders; `names` are the data sets there are, `added(name)` is told of the end. */
export function uploader({ names, signal, added }) {
  const step = el('div', { class: 'stack', 'aria-live': 'polite' });
  const take = (files) => begin(files, { names, signal, added, step, again: () => put(step, choose()) });
  const choose = () => choosers(take);
  put(step, choose());
  return { node: card('Add images', step), take };
}

function choosers(take) {
  const file = el('input', { type: 'file', accept: '.zip,application/zip', class: 'unseen', id: 'archive', on: { change: (event) => take([...event.target.files]) } });
  const folder = el('input', { type: 'file', webkitdirectory: true, multiple: true, class: 'unseen', id: 'folder', on: { change: (event) => take([...event.target.files]) } });
  return [
    el('p', {}, 'A ZIP with a folder for each class, dropped here or chosen, or such a folder. First you see what would be added.'),
    el('div', { class: 'row' },
      el('label', { class: 'button primary', for: 'archive' }, 'Choose a ZIP'), file,
      el('label', { class: 'button', for: 'folder' }, 'Choose a folder'), folder),
  ];
}

/** From what was chosen to an archive. */
async function begin(files, context) {
  const { step, again, signal } = context;
  const kept = files.filter(({ webkitRelativePath, name }) => !LITTER.test(webkitRelativePath || name));
  if (!kept.length) {
    put(step, el('p', { class: 'notice warn' }, 'There is no file in it.'), button('Choose another', { click: again }));
    return;
  }
  const single = kept.length === 1 && /\.zip$/i.test(kept[0].name);
  if (!single && kept.some(({ webkitRelativePath }) => !webkitRelativePath)) {
    put(step, el('p', { class: 'notice warn' }, 'Choose one ZIP at a time, or a folder: images without a folder have no class.'), button('Choose another', { click: again }));
    return;
  }
  try {
    const archive = single ? kept[0] : await packed(kept, context);
    await check({ archive, name: single ? kept[0].name : kept[0].webkitRelativePath.split('/')[0], files: single ? null : kept }, context);
  } catch (problem) {
    if (signal.aborted) return;
    if (problem.name === 'AbortError') again();
    else put(step, problem instanceof RangeError ? el('p', { class: 'notice warn' }, problem.message) : failure(problem), button('Choose another', { click: again }));
  }
}

/** A folder becomes a ZIP in the browser. */
async function packed(files, { step, signal }) {
  const stopped = new AbortController();
  const bar = el('progress', { max: files.length, value: 0, 'aria-label': 'Files read' });
  put(step, el('p', {}, `Reading ${counted(files.length, 'file')} …`), bar, button('Cancel', { click: () => stopped.abort() }));
  const named = files.map((file) => ({ name: file.webkitRelativePath, file }));
  return zip(named, { signal: AbortSignal.any([signal, stopped.signal]), told: (done) => { bar.value = done; } });
}

/** The dry run: the service looks at the archive and keeps nothing. */
async function check(chosen, context) {
  const { step, again, signal, names } = context;
  const stopped = new AbortController();
  const track = tracker(`Looking at ${chosen.name}`, () => stopped.abort());
  put(step, track.node);
  const report = await upload(address('/v1/inspect', { thumbnails: 12, files: 100 }), chosen.archive, {
    type: 'application/zip', signal: AbortSignal.any([signal, stopped.signal]), progress: track.progress,
  });
  const { input, list } = suggesting(names, {
    value: names[0] ?? 'default', required: true, maxlength: 64, pattern: '[A-Za-z0-9_\\-][A-Za-z0-9._\\-]*', spellcheck: 'false',
  });
  const submit = (event) => {
    event.preventDefault();
    send(chosen, input.value.trim(), context);
  };
  put(step,
    el('p', {}, el('strong', {}, chosen.name), ` · ${bytes(chosen.archive.size)}`, chosen.files && ` · ${counted(chosen.files.length, 'file')}`),
    findings(report),
    el('form', { class: 'stack', on: { submit } },
      field('Data set', input, 'The one to add to, or a new name: letters, digits, dot, dash, underscore.'), list,
      el('div', { class: 'row' }, el('button', { class: 'button primary' }, 'Add these images'), button('Choose another', { click: again }))));
  return input.focus({ preventScroll: true });
}

/** A progress bar with its text and a way to stop. */
function tracker(title, stop) {
  const bar = el('progress', { max: 1, value: 0, 'aria-label': title });
  const text = el('p', { class: 'hint' }, 'Sending …');
  const progress = (sent, total) => {
    bar.value = sent / total;
    text.textContent = sent < total ? `${bytes(sent)} of ${bytes(total)}, ${percent(sent / total, 0)}` : 'All is sent; the images are being looked at …';
    if (sent >= total) bar.removeAttribute('value');
  };
  return { node: el('div', { class: 'stack' }, el('p', {}, title), bar, text, button('Cancel', { click: stop })), progress };
}

async function send(chosen, name, context) {
  const { step, again, signal, added } = context;
  const stopped = new AbortController();
  const track = tracker(`Adding ${chosen.name} to ${name}`, () => stopped.abort());
  put(step, track.node);
  try {
    const report = await upload(address('/upload-data', { dataset: name }), chosen.archive, {
      type: 'application/zip', signal: AbortSignal.any([signal, stopped.signal]), progress: track.progress,
    });
    put(step, done(report, { again, added }));
  } catch (problem) {
    if (signal.aborted) return;
    if (problem.name === 'AbortError') {
      put(step, el('p', { class: 'notice' }, 'Cancelled. If all of it had been sent already, the images may have been added.'), button('Choose another', { click: again }));
    } else {
      put(step, failure(problem, () => send(chosen, name, context)), button('Choose another', { click: again }));
    }
  }
}

/** What became of an upload. */
function done(report, { again, added }) {
  const { dataset, accepted, duplicates, restored, skipped, skipped_total: left, classes, notes, warning, job } = report;
  const rows = classes.map(({ name, before, after }) => [name, count(before), count(after), after > before ? `+${count(after - before)}` : '']);
  return [
    el('p', { class: 'notice good', role: 'status' }, `${counted(accepted, 'image')} added to “${dataset}”. `,
      duplicates > 0 && `${count(duplicates)} were there already. `, restored > 0 && `${count(restored)} that were damaged are whole again. `, left > 0 && `${count(left)} were left out.`),
    warning && el('p', { class: 'notice warn' }, warning),
    job && el('p', {}, 'A training began: ', el('a', { href: `#/train/${job}` }, `job ${job}`)),
    table('Classes', [{ title: 'Class' }, { title: 'before', number: true }, { title: 'now', number: true }, { title: '', number: true }], rows),
    left > 0 && el('details', {}, el('summary', {}, `${counted(left, 'file')} left out`),
      el('ul', { class: 'plain' }, skipped.slice(0, SHOWN).map(({ name, reason }) => el('li', {}, el('strong', {}, name), ` ${reason}`))),
      left > Math.min(SHOWN, skipped.length) && el('p', { class: 'hint' }, `and ${count(left - Math.min(SHOWN, skipped.length))} more`)),
    el('ul', { class: 'plain hint' }, notes.map((note) => el('li', {}, note))),
    el('div', { class: 'row' }, button(`Show ${dataset}`, { kind: 'primary', click: () => added(dataset) }), button('Add more', { click: again })),
  ];
}
