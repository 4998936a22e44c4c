// One data set: its classes, and the images of a class, which can be moved, given another split, or removed.

import { busy, button, chip, confirmed, dialog, el, empty, photo, put, suggesting, table, toast } from './dom.js';
import { gallery } from './gallery.js';
import { address, get, post, remove } from './http.js';
import { mayChange } from './session.js';
import { bytes, count, counted, moment } from './words.js';

/** Images of a page. */
const PAGE = 60;

/** Images on the card of a class. */
const SAMPLES = 4;

const setPath = (name) => `/v1/datasets/${encodeURIComponent(name)}`;
const setLink = (name) => `#/data/set/${encodeURIComponent(name)}`;
const thumbnail = (name, id) => `${setPath(name)}/images/${id}/thumbnail`;

/** Where one is, as links. */
const trail = (...links) => el('nav', { class: 'trail', 'aria-label': 'Where this is' }, links.map(([href, text]) => [el('a', { href }, text), ' / ']));

/** `#/data/set/NAME`. */
export async function showSet(root, { name, signal }) {
  const set = await get(setPath(name), { signal });
  const most = Math.max(1, ...set.classes.map(({ images }) => images));
  const least = Math.min(...set.classes.map(({ images }) => images));
  const history = el('div');
  put(root,
    trail(['#/data', 'Data']),
    el('h1', {}, name),
    el('div', { class: 'row between' },
      el('p', { class: 'hint' }, `${counted(set.images, 'image')} of ${counted(set.classes.length, 'class', 'classes')}, ${bytes(set.bytes)}`),
      el('div', { class: 'row' },
        mayChange('admin') && el('a', { class: 'button primary', href: `#/train/new/${encodeURIComponent(name)}` }, 'Train on it'),
        mayChange('admin') && button('Delete', { kind: 'danger', click: (event) => drop(event.target, name) }))),
    set.classes.length > 1 && most > 5 * least && el('p', { class: 'notice warn' },
      `The largest class has ${Math.round(most / least)} times as many images as the smallest one: the small ones are learnt worse. More images of them help most.`),
    set.fresh > 0 && set.jobs.length > 0 && el('p', { class: 'notice' }, `${counted(set.fresh, 'image')} came since it was last trained on.`),
    set.classes.length
      ? el('ul', { class: 'tiles' }, set.classes.map((one) => classCard(name, one, { most, signal })))
      : empty('No images', el('p', {}, 'All of them were removed.')),
    history);
  await changes(history, { name, signal });
}

async function drop(control, name) {
  const text = 'Its images are deleted for good. Models that were trained on them stay.';
  if (!await confirmed(`Delete the data set “${name}”?`, text, 'Delete it')) return;
  await busy(control, async () => {
    await remove(setPath(name));
    toast(`“${name}” is deleted.`);
    location.hash = '#/data';
  });
}

function classCard(set, { name, images, train, val, test, damaged }, { most, signal }) {
  const samples = el('div', { class: 'samples', 'aria-hidden': 'true' });
  get(address(`${setPath(set)}/images`, { class: name, limit: SAMPLES }), { signal })
    .then(({ images: some }) => put(samples, some.map(({ id }) => photo(thumbnail(set, id), ''))))
    .catch(() => {});
  const part = (size) => ({ width: `${(100 * size) / Math.max(1, images)}%` });
  return el('li', { class: 'card tile' },
    el('h2', {}, el('a', { href: `${setLink(set)}/${encodeURIComponent(name)}` }, name)),
    samples,
    el('p', {}, el('strong', {}, counted(images, 'image')), damaged > 0 && [' ', chip(`${count(damaged)} damaged`, 'bad')]),
    el('div', { class: 'balance', 'aria-hidden': 'true', style: { width: `${(100 * images) / most}%` } },
      el('span', { class: 'part-0', style: part(train) }), el('span', { class: 'part-1', style: part(val) }), el('span', { class: 'part-2', style: part(test) })),
    el('p', { class: 'hint' }, `${count(train)} train, ${count(val)} validation, ${count(test)} test`));
}

/** What was changed lately, each with a way back. */
async function changes(place, { name, signal }) {
  const { changes: list } = await get(`${setPath(name)}/changes?limit=20`, { signal });
  if (!list.length) return;
  const rows = list.map((one) => [
    told(one), one.key, moment(one.at),
    one.undone ? chip('undone') : mayChange('data') && button('Undo', { kind: 'quiet', 'aria-label': `Undo: ${told(one)}`, click: (event) => undo(event.target, name, one.change) }),
  ]);
  put(place, el('h2', {}, 'Changes'), table('Changes', [{ title: 'What' }, { title: 'By' }, { title: 'When' }, { title: '' }], rows));
}

/** A change in words. */
const told = ({ images, class: to }) => `${counted(images, 'image')} ${to === null ? 'removed' : `moved to “${to}”`}`;

async function undo(control, name, number) {
  await busy(control ?? {}, async () => {
    const { images } = await post(`${setPath(name)}/changes/${number}/undo`);
    toast(`${counted(images, 'image')} as before.`);
    dispatchEvent(new HashChangeEvent('hashchange'));
  });
}

/** `#/data/set/NAME/CLASS`. */
export async function showClass(root, { name, className, signal }) {
  const set = await get(setPath(name), { signal });
  const others = set.classes.map((one) => one.name);
  const place = el('div', { class: 'stack' });
  const heading = el('p', { class: 'hint', 'aria-live': 'polite' });
  put(root, trail(['#/data', 'Data'], [setLink(name), name]), el('h1', {}, className), heading, place);
  let offset = 0;

  const load = async () => {
    const page = await get(address(`${setPath(name)}/images`, { class: className, offset, limit: PAGE }), { signal });
    if (!page.images.length && offset > 0) {
      offset = Math.max(0, offset - PAGE);
      await load();
      return;
    }
    heading.textContent = page.total ? `${count(offset + 1)} to ${count(offset + page.images.length)} of ${counted(page.total, 'image')}` : '';
    put(place, page.images.length ? pictures(page) : empty('No images here', el('p', {}, el('a', { href: setLink(name) }, 'Back to the classes'))));
  };

  const pictures = ({ images, total }) => {
    const items = images.map(({ id, name: title, split, damaged }) => ({ id, title, note: damaged ? 'damaged' : split, src: thumbnail(name, id) }));
    const tools = el('div', { class: 'selection' });
    let chosen = [];
    const change = (what) => async (event) => {
      event.preventDefault();
      await busy(event.submitter ?? event.target, async () => {
        const made = await post(`${setPath(name)}/changes`, { images: chosen, ...what() });
        toast(`${told(made)}.`, { text: 'Undo', run: () => undo(null, name, made.change) });
        await load();
      });
    };
    const bar = mayChange('data') ? selectionTools(others, change, { clear: () => list.clear() }) : null;
    const list = gallery(`Images of ${className}`, items, {
      changed: (ids) => {
        chosen = ids;
        bar?.told(ids.length);
      },
      open: (item) => large(name, item),
    });
    put(tools, bar?.node);
    const go = (to) => async (event) => { offset = to; await busy(event.target, load); scrollTo(0, 0); };
    return [
      tools, list.node,
      total > PAGE && el('div', { class: 'row' },
        button('Previous', { disabled: offset === 0, click: go(offset - PAGE) }),
        button('Next', { disabled: offset + PAGE >= total, click: go(offset + PAGE) })),
    ];
  };

  await load();
}

const HOW = 'Click to choose, Shift for a range, Ctrl+A for all. A double click or Enter shows one large.';

/** What can be done to the images that are chosen. */
function selectionTools(classes, change, { clear }) {
  const text = el('p', { 'aria-live': 'polite', class: 'hint' }, HOW);
  const { input, list } = suggesting(classes, { required: true, maxlength: 255, 'aria-label': 'Class to move them to', placeholder: 'class' });
  const move = change(() => ({ class: input.value.trim() }));
  const controls = el('div', { class: 'row', hidden: true },
    el('form', { class: 'row', on: { submit: move } }, input, list, el('button', { class: 'button' }, 'Move')),
    button('Remove', { kind: 'danger', click: change(() => ({ remove: true })) }),
    button('Choose none', { kind: 'quiet', click: clear }));
  const told = (number) => {
    controls.hidden = number === 0;
    put(text, number ? el('strong', {}, `${count(number)} chosen`) : HOW);
  };
  return { node: [text, controls], told };
}

/** One image as it was uploaded. */
function large(set, { id, title }) {
  return dialog(title, (close) => [
    photo(`${setPath(set)}/images/${id}`, title, { class: 'large' }),
    el('div', { class: 'row end' }, button('Close', { click: () => close() })),
  ]);
}
