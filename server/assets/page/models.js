// Models: all versions, which one serves, and two of them beside each other.

import { compare } from './compare.js';
import { busy, button, card, chip, confirmed, el, field, put, save, select, toast } from './dom.js';
import { file, get, key, post, remove } from './http.js';
import { may, mayChange } from './session.js';
import { bytes, counted, moment, percent } from './words.js';

const ORIGINS = { trained: 'trained here', imported: 'came with the service' };

/** `#/models`, `#/models/VERSION/VERSION` (two to compare). */
export async function show(root, { parts, signal }) {
  const place = el('div', { class: 'stack' });
  put(root, el('h1', {}, 'Versions of the model'), place);
  const load = async () => {
    const list = await get('/v1/models', { signal });
    put(place, actions(list, load), card(null, versions(list, load)), list.versions.length > 1 && comparison(list, parts, signal));
  };
  await load();
}

function actions({ versions: all, serving, previous }, load) {
  const now = all.find(({ version }) => version === serving);
  const back = async (event) => {
    if (!await confirmed('Go back?', `Version ${previous} serves again in place of ${serving}. Nothing is deleted.`, 'Go back')) return;
    await busy(event.target, async () => {
      const done = await post(`/v1/models/rollback?from=${encodeURIComponent(serving)}`);
      toast(`Version ${done.serving} serves again.`);
      await load();
    });
  };
  return el('div', { class: 'row between' },
    el('p', {}, 'Version ', el('strong', {}, serving), ` serves: ${counted(now?.classes.length ?? 0, 'class', 'classes')} of ${now?.data_name ?? 'unknown data'}.`),
    previous && mayChange('admin') && button(`Go back to ${previous}`, { click: back }));
}

/** All versions, newest first. */
function versions({ versions: all, serving }, load) {
  return el('ul', { class: 'list' }, [...all].reverse().map((one) => {
    const { version, number, created, origin, data_name: data, classes, width, height, metrics, bytes: size, damaged, parent } = one;
    return el('li', { class: 'version' },
      el('div', {},
        el('h2', {}, `Version ${number} `, el('a', { href: `#/evaluate/${version}` }, version), one.serving && [' ', chip('serves', 'good')], damaged && [' ', chip('damaged', 'bad')]),
        el('p', {}, `${data}, `, el('span', { title: classes.join(', ') }, counted(classes.length, 'class', 'classes'))),
        el('p', { class: 'hint' }, [`${ORIGINS[origin] ?? origin} ${moment(created)}`, parent && `from ${parent}`, `input ${width} × ${height}`, bytes(size)].filter(Boolean).join(', ')),
        damaged && el('p', { class: 'notice bad' }, damaged)),
      el('div', {},
        el('p', { class: 'label' }, 'Accuracy'),
        el('p', { class: 'medium-number' }, percent(metrics?.accuracy)),
        metrics && el('p', { class: 'hint' }, counted(metrics.images, 'image'))),
      el('div', { class: 'row tight' }, deeds(one, serving, load)));
  }));
}

/** What can be done with a version. */
function deeds({ version, serving: serves, damaged, origin }, serving, load) {
  const promote = (event) => busy(event.target, async () => {
    const { before } = await post(`/v1/models/${version}/promote`);
    await load();
    toast(`Version ${version} serves now.`, { text: 'Undo', run: () => busy({}, async () => { await post(`/v1/models/${before}/promote`); await load(); }) });
  });
  const erase = async (event) => {
    if (!await confirmed(`Delete version ${version}?`, 'Its file is deleted for good.', 'Delete it')) return;
    await busy(event.target, async () => { await remove(`/v1/models/${version}`); await load(); });
  };
  const about = (what) => ({ 'aria-label': `${what} ${version}`, kind: 'quiet' });
  return [
    !serves && !damaged && mayChange('admin') && button('Promote', { ...about('Promote'), kind: '', click: promote }),
    may('data') && download('Download', `/v1/models/${version}/file`, `model-${version}.ocelli`, about('Download')),
    may('data') && origin === 'trained' && download('Report', `/v1/models/${version}/report`, `report-${version}.html`, about('Report of')),
    version !== serving && mayChange('admin') && button('Delete', { ...about('Delete'), click: erase }),
  ];
}

/** A link, or with a key, which links do not send, a button that saves the file. */
function download(text, path, name, attributes) {
  if (!key()) {
    const { kind, ...rest } = attributes;
    return el('a', { class: `button ${kind}`, href: path, ...(name.endsWith('.html') ? { target: '_blank' } : { download: name }), ...rest }, text);
  }
  return button(text, { ...attributes, click: (event) => busy(event.target, async () => save(name, await file(path))) });
}

function comparison({ versions: all, serving }, [first, second], signal) {
  const has = (version) => all.some((one) => one.version === version);
  const newest = all.findLast(({ version }) => version !== serving).version;
  const chosen = { before: has(first) ? first : serving, after: has(second) ? second : newest };
  const place = el('div', { 'aria-live': 'polite' });
  const draw = () => compare(place, { before: all.find(({ version }) => version === chosen.before), after: all.find(({ version }) => version === chosen.after), signal });
  const choices = [...all].reverse().map(({ version, number, serving: serves }) => [version, `${number}: ${version}${serves ? ' (serves)' : ''}`]);
  const pick = (name) => select(choices, chosen[name], (value) => { chosen[name] = value; draw(); });
  draw();
  return card('Two beside each other', el('div', { class: 'row' }, field('This one', pick('before')), field('and that one', pick('after'))), place);
}
