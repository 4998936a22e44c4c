// Elements. Names of classes and files come from strangers: text becomes text nodes, never markup.

import { Problem, file, key } from './http.js';

const SVG = 'http://www.w3.org/2000/svg';

/**
 * An element. `attributes` go to `setAttribute` (true: present, false/null: left out), but for `on` (listeners by event),
 * `data` (dataset), `style` (CSS properties, set by script, which the policy allows) and `value`. Children are nodes, texts, or null.
 */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  const { on = {}, data = {}, style = {}, value, ...plain } = attributes ?? {};
  for (const [name, given] of Object.entries(plain)) {
    if (given === false || given === null || given === undefined) continue;
    node.setAttribute(name, given === true ? '' : given);
  }
  for (const [name, listener] of Object.entries(on)) node.addEventListener(name, listener);
  for (const [name, text] of Object.entries(style)) node.style.setProperty(name, text);
  Object.assign(node.dataset, data);
  node.append(...present(children));
  if (value !== undefined) node.value = value;
  return node;
}

/** Lists in lists become one; what is not there is left out. */
const present = (children) =>
  children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

/** Puts `children` in the place of what is in `node`. */
export function put(node, ...children) {
  node.replaceChildren(...present(children));
  return node;
}

let ids = 0;

/** An id that no other element has. */
const uniqueId = (word) => `${word}-${(ids += 1)}`;

/** A button. `kind`: `primary`, `quiet`, `danger` or nothing. */
export function button(text, { kind = '', click, ...attributes } = {}) {
  return el('button', { type: 'button', class: `button ${kind}`, on: click ? { click } : {}, ...attributes }, text);
}

/** A control with its label above and a hint below. */
export function field(label, control, hint) {
  control.id ||= uniqueId('field');
  const about = hint ? el('p', { class: 'hint', id: uniqueId('hint') }, hint) : null;
  if (about) control.setAttribute('aria-describedby', about.id);
  return el('div', { class: 'field' }, el('label', { for: control.id }, label), control, about);
}

/** A choice from a list: `[value, text]` each. */
export function select(choices, chosen, change, attributes = {}) {
  const options = choices.map(([value, text]) => el('option', { value, selected: value === chosen }, text));
  return el('select', { ...attributes, on: change ? { change: (event) => change(event.target.value) } : {} }, options);
}

/** A text with suggestions. */
export function suggesting(suggestions, attributes = {}) {
  const list = el('datalist', { id: uniqueId('list') }, suggestions.map((value) => el('option', { value })));
  const input = el('input', { type: 'text', list: list.id, autocomplete: 'off', ...attributes });
  return { input, list };
}

/** One of a few choices, as a row of radio buttons that look like one control. */
export function segments(legend, choices, chosen, change) {
  const name = uniqueId('segment');
  const radios = choices.map(([value, text]) => {
    const id = uniqueId('choice');
    const input = el('input', {
      type: 'radio', name, id, value, checked: value === chosen, on: { change: () => change(value) },
    });
    return [input, el('label', { for: id }, text)];
  });
  return el('fieldset', { class: 'segments' }, el('legend', { class: 'unseen' }, legend), radios);
}

/** A table: `columns` are `{ title, number }`, rows are lists of cells. Scrolls by itself where it is too wide. */
export function table(label, columns, rows) {
  const head = columns.map(({ title, number }) => el('th', { scope: 'col', class: number && 'number' }, title));
  const line = (cells) =>
    el('tr', {}, cells.map((cell, at) => {
      const attributes = { class: columns[at]?.number && 'number' };
      return at === 0 ? el('th', { scope: 'row', ...attributes }, cell) : el('td', attributes, cell);
    }));
  const body = el('tbody', {}, rows.map(line));
  return scrolling(label, el('table', {}, el('thead', {}, el('tr', {}, head)), body));
}

/** Wide content that scrolls, also by keyboard. */
export const scrolling = (label, ...content) =>
  el('div', { class: 'scroll', role: 'region', 'aria-label': label, tabindex: '0' }, content);

/** A heading and what stands under it, as a card. */
export const card = (title, ...content) =>
  el('section', { class: 'card' }, title ? el('h2', {}, title) : null, content);

/** A short word with a meaning: `good`, `warn`, `bad` or nothing. */
export const chip = (text, meaning = '') => el('span', { class: `chip ${meaning}` }, text);

/** What to do where there is nothing yet. */
export const empty = (title, ...content) => el('div', { class: 'empty' }, el('h2', {}, title), content);

/** What went wrong and what to do; `again` offers to try once more. */
export function failure(problem, again) {
  const known = problem instanceof Problem;
  return el('div', { class: 'notice bad', role: 'alert' },
    el('p', {}, el('strong', {}, known ? problem.message : 'This page made a mistake.')),
    el('p', {}, known ? problem.advice : `Reload it. What it says of the mistake: ${problem.message}`),
    again ? button('Try again', { click: again }) : null);
}

/** Says something to those who listen to the page. */
export function announce(text) {
  document.getElementById('spoken').textContent = text;
}

/** How long a message without a button stays. */
const TOAST_MS = 6000;

/** A message in the corner; one with a button stays until it is closed or the next comes. */
export function toast(text, action) {
  const place = document.getElementById('toasts');
  const close = button('Close', { kind: 'quiet', click: () => note.remove() });
  const act = action && button(action.text, { click: () => { note.remove(); action.run(); } });
  const note = el('div', { class: 'toast' }, el('span', {}, text), act, close);
  put(place, note);
  if (!action) setTimeout(() => note.remove(), TOAST_MS);
}

/** The same for something that failed. */
const toastProblem = (problem) => toast([problem.message, problem.advice].filter(Boolean).join(' '));

/** Runs what a button starts: the button waits meanwhile, and a failure is told. */
export async function busy(control, work) {
  control.disabled = true;
  try {
    return await work();
  } catch (problem) {
    if (problem.name !== 'AbortError') toastProblem(problem);
    return undefined;
  } finally {
    control.disabled = false;
  }
}

/** A dialog above the page; `build(close)` gives its content. Resolves with what it is closed with. */
export function dialog(title, build) {
  return new Promise((resolve) => {
    const heading = el('h2', { id: uniqueId('title') }, title);
    const box = el('dialog', { 'aria-labelledby': heading.id });
    const close = (value) => { result = value; box.close(); };
    let result;
    box.append(heading, ...[build(close)].flat());
    box.addEventListener('close', () => { box.remove(); resolve(result); });
    document.body.append(box);
    box.showModal();
  });
}

/** Asks before something that cannot be taken back. */
export function confirmed(title, text, act) {
  return dialog(title, (close) => [
    el('p', {}, text),
    el('div', { class: 'row end' },
      button('Keep it as it is', { click: () => close(false) }),
      button(act, { kind: 'danger', click: () => close(true) })),
  ]);
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    fetchImage(target);
  }
}, { rootMargin: '200px' });

async function fetchImage(image) {
  try {
    const url = URL.createObjectURL(await file(image.dataset.path));
    image.addEventListener('load', () => URL.revokeObjectURL(url), { once: true });
    image.src = url;
  } catch {
    image.dispatchEvent(new Event('error'));
  }
}

/** An image of the service. An `<img>` sends no key, so with one the image is fetched, once it comes into view. */
export function photo(path, alt, attributes = {}) {
  const gone = () => image.replaceWith(el('span', { class: 'gone', role: 'img', 'aria-label': alt || 'image' }, 'no longer there'));
  const image = el('img', { alt, loading: 'lazy', decoding: 'async', ...attributes, on: { error: gone } });
  if (key()) {
    image.dataset.path = path;
    seen.observe(image);
  } else {
    image.src = path;
  }
  return image;
}

/** Has the browser save a file. */
export function save(name, content) {
  const url = URL.createObjectURL(content);
  el('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Puts a text into the clipboard, and says so. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied.`);
  } catch {
    toast('The browser did not allow it: select the text and copy it by hand.');
  }
}
