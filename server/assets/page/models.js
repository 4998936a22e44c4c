// Models: all versions, which one serves, and two of them beside each other.

import { compare } from './compare.js';
import { busy, button, card, chip, confirmed, el, field, put, save, select, table, toast } from './dom.js';
import { file, get, key, post, remove } from './http.js';
import { ofModel } from './model.js';
import { may, mayChange, session } from './session.js';
import { bytes, counted, moment, percent } from './words.js';

/** Percent of the requests that a canary gets from this page. */
const CANARY_SHARE = 10;

const ORIGINS = { trained: 'trained here', imported: 'came with the service' };

/** `#/models`, `#/models/VERSION/VERSION` (two to compare). */
export async function show(root, { parts, signal }) {
  const place = el('div', { class: 'stack' });
  const heading = el('h1', {}, 'Versions of the model');
  put(root, heading, place);
  const load = async () => {
    const [list, labels] = await Promise.all([get('/v1/models', { signal }), get('/v1/models/labels', { signal })]);
    if (session.models.length > 1) put(heading, `Versions of ${list.model}`);
    put(place, actions(list, load), labelled(labels, load), card(null, versions(list, load)), list.versions.length > 1 && comparison(list, parts, signal));
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

/** Which versions answer beside the one that serves, and how often the shadow says the same. */
function labelled({ canary, shadow, agreement }, load) {
  if (!canary && !shadow) return null;
  const clear = (label) => mayChange('admin') && button(`End the ${label}`, { click: (event) => busy(event.target, async () => { await remove(`/v1/models/labels/${label}`); await load(); }) });
  const share = ({ images, agree }) => `${percent(images ? agree / images : undefined)} of ${counted(images, 'image')}`;
  return card('Beside the version that serves',
    canary && el('div', { class: 'row between' }, el('p', {}, 'Canary ', el('strong', {}, canary.version), ` answers ${canary.share} % of the requests.`), clear('canary')),
    shadow && el('div', { class: 'row between' },
      el('p', {}, 'Shadow ', el('strong', {}, shadow), agreement && ` says the same for ${share(agreement)}`, agreement?.left_out > 0 && `; ${counted(agreement.left_out, 'image')} left out`, '.'), clear('shadow')),
    agreement?.problem && el('p', { class: 'notice bad' }, agreement.problem),
    agreement?.images > 0 && table('Agreement of the shadow',
      [{ title: 'What was answered' }, { title: 'The shadow says the same', number: true }],
      Object.entries(agreement.classes).map(([name, counts]) => [name, share(counts)])));
}

/** All versions, newest first. */
function versions({ versions: all, serving, labels }, load) {
  return el('ul', { class: 'list' }, [...all].reverse().map((one) => {
    const { version, number, created, origin, data_name: data, classes, width, height, metrics, bytes: size, damaged, parent } = one;
    return el('li', { class: 'version' },
      el('div', {},
        el('h2', {}, `Version ${number} `, el('a', { href: `#/evaluate/${version}` }, version), one.serving && [' ', chip('serves', 'good')], labels.canary?.version === version && [' ', chip(`canary, ${labels.canary.share} %`)], labels.shadow === version && [' ', chip('shadow')], damaged && [' ', chip('damaged', 'bad')]),
        el('p', {}, `${data}, `, el('span', { title: classes.join(', ') }, counted(classes.length, 'class', 'classes'))),
        el('p', { class: 'hint' }, [`${ORIGINS[origin] ?? origin} ${moment(created)}`, parent && `from ${parent}`, `input ${width} × ${height}`, bytes(size)].filter(Boolean).join(', ')),
        damaged && el('p', { class: 'notice bad' }, damaged)),
      el('div', {},
        el('p', { class: 'label' }, 'Accuracy'),
        el('p', { class: 'medium-number' }, percent(metrics?.accuracy)),
        metrics && el('p', { class: 'hint' }, counted(metrics.images, 'image'))),
      el('div', { class: 'row tight' }, deeds(one, serving, labels, load)));
  }));
}

/** What can be done with a version. */
function deeds({ version, serving: serves, damaged, origin }, serving, labels, load) {
  const promote = (event) => busy(event.target, async () => {
    const { before } = await post(`/v1/models/${version}/promote`);
    await load();
    toast(`Version ${version} serves now.`, { text: 'Undo', run: () => busy({}, async () => { await post(`/v1/models/${before}/promote`); await load(); }) });
  });
  const erase = async (event) => {
    if (!await confirmed(`Delete version ${version}?`, 'Its file is deleted for good.', 'Delete it')) return;
    await busy(event.target, async () => { await remove(`/v1/models/${version}`); await load(); });
  };
  const give = (label, body) => (event) => busy(event.target, async () => { await post(`/v1/models/labels/${label}`, { version, ...body }); await load(); });
  const free = !serves && !damaged && mayChange('admin');
  const about = (what) => ({ 'aria-label': `${what} ${version}`, kind: 'quiet' });
  return [
    !serves && !damaged && mayChange('admin') && button('Promote', { ...about('Promote'), kind: '', click: promote }),
    free && labels.canary?.version !== version && button('Canary', { ...about('Canary'), title: `Answers ${CANARY_SHARE} % of the requests`, click: give('canary', { share: CANARY_SHARE }) }),
    free && labels.shadow !== version && button('Shadow', { ...about('Shadow'), click: give('shadow') }),
    may('data') && download('Download', `/v1/models/${version}/file`, `model-${version}.ocelli`, about('Download')),
    may('data') && origin === 'trained' && download('Report', `/v1/models/${version}/report`, `report-${version}.html`, about('Report of')),
    version !== serving && mayChange('admin') && button('Delete', { ...about('Delete'), click: erase }),
  ];
}

/** A link, or with a key, which links do not send, a button that saves the file. */
function download(text, path, name, attributes) {
  if (!key()) {
    const { kind, ...rest } = attributes;
    return el('a', { class: `button ${kind}`, href: ofModel(path), ...(name.endsWith('.html') ? { target: '_blank' } : { download: name }), ...rest }, text);
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
