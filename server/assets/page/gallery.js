// Many images: those of which several can be chosen, by click, by a range with Shift, and by keyboard; and mistakes.

import { el, photo } from './dom.js';
import { may } from './session.js';
import { baseName, percent } from './words.js';

/**
 * A list of images. `items` are `{ id, src, title, note }`; `changed(chosen)` is told of the ids that are chosen, `open(item)`
 * of one that is to be seen large (Enter or double click).
 */
export function gallery(label, items, { changed, open }) {
  const chosen = new Set();
  let anchor = 0;
  const tiles = items.map((item, at) =>
    el('div', {
      class: 'picture', role: 'option', 'aria-selected': 'false', tabindex: at === 0 ? '0' : '-1',
      'aria-label': [item.title, item.note].filter(Boolean).join(', '), title: item.title,
      on: { click: (event) => click(at, event), dblclick: () => open(item) },
    }, photo(item.src, ''), item.note && el('span', { class: 'name' }, item.note)));
  const node = el('div', { class: 'gallery', role: 'listbox', 'aria-multiselectable': 'true', 'aria-label': label, on: { keydown: press } }, tiles);

  function mark() {
    tiles.forEach((tile, at) => tile.setAttribute('aria-selected', String(chosen.has(items[at].id))));
    changed([...chosen]);
  }

  function toggle(at) {
    const { id } = items[at];
    if (!chosen.delete(id)) chosen.add(id);
    anchor = at;
    mark();
  }

  function range(to) {
    chosen.clear();
    for (let at = Math.min(anchor, to); at <= Math.max(anchor, to); at += 1) chosen.add(items[at].id);
    mark();
  }

  function focus(at) {
    tiles.forEach((tile, other) => tile.setAttribute('tabindex', other === at ? '0' : '-1'));
    tiles[at].focus();
  }

  function click(at, event) {
    focus(at);
    if (event.shiftKey) range(at);
    else toggle(at);
  }

  /** Tiles in a row, as they stand now. */
  function columns() {
    const first = tiles[0].offsetTop;
    const next = tiles.findIndex((tile) => tile.offsetTop > first);
    return next < 0 ? tiles.length : next;
  }

  function press(event) {
    const at = tiles.indexOf(document.activeElement);
    if (at < 0) return;
    const last = tiles.length - 1;
    const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns(), ArrowDown: at + columns(), Home: 0, End: last };
    if (event.key in steps) {
      const to = Math.min(last, Math.max(0, steps[event.key]));
      focus(to);
      if (event.shiftKey) range(to);
    } else if (event.key === ' ') toggle(at);
    else if (event.key === 'Enter') open(items[at]);
    else if (event.key === 'Escape') clear();
    else if (event.key.toLowerCase() === 'a' && (event.ctrlKey || event.metaKey)) all();
    else return;
    event.preventDefault();
  }

  function clear() {
    chosen.clear();
    mark();
  }

  function all() {
    for (const { id } of items) chosen.add(id);
    mark();
  }

  return { node, clear, all };
}

/** The name of a stored image is its id. */
const idOf = ({ image, name }) => image ?? (/([0-9a-f]{64})\.\w+$/.exec(name)?.[1] ?? null);

/** Images of a data set with what they are, what they are taken for, and how surely. */
export function mistakes(predictions, dataset) {
  return el('ul', { class: 'thumbs' }, predictions.map((one) => {
    const id = idOf(one);
    const wrong = one.label !== one.predicted;
    const text = wrong ? `${one.label} → ${one.predicted}` : one.label;
    const shown = id && may('data')
      ? photo(`/v1/datasets/${encodeURIComponent(dataset)}/images/${id}/thumbnail`, text)
      : el('span', { class: 'gone' }, id ? 'needs a key for data' : baseName(one.name ?? ''));
    return el('li', {}, shown, el('span', { class: 'name', title: text }, text), el('span', { class: 'hint' }, percent(one.probability, 0)));
  }));
}
