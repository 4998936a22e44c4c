// The review queue: corrections that people sent, to be taken into a data set or not.

import { busy, button, card, chip, el, empty, field, photo, put, suggesting, toast } from './dom.js';
import { address, get, post, remove } from './http.js';
import { mayChange, whyNot } from './session.js';
import { count, counted, moment } from './words.js';

/** Corrections of a page. */
const PAGE = 24;

/** `#/data/review`. */
export async function review(root, signal) {
  const [{ datasets }, { model }] = await Promise.all([get('/v1/datasets', { signal }), get('/status', { signal })]);
  const place = el('div', { class: 'stack' });
  const about = el('p', { class: 'hint', 'aria-live': 'polite' });
  const into = suggesting(datasets.map(({ name }) => name), { value: datasets[0]?.name ?? 'default', maxlength: 64 });
  put(root,
    el('nav', { class: 'trail', 'aria-label': 'Where this is' }, el('a', { href: '#/data' }, 'Data'), ' / '),
    el('h1', {}, 'Review'), about, place);

  const load = async () => {
    const { total, feedback } = await get(address('/v1/feedback', { limit: PAGE }), { signal });
    about.textContent = total ? `${counted(total, 'correction')} in the queue, oldest first. What you accept becomes an image to train on.` : '';
    if (!total) {
      put(place, nothing());
      return;
    }
    put(place,
      mayChange('data') ? el('div', {}, field('Data set for what is accepted', into.input), into.list) : el('p', { class: 'notice' }, whyNot('data')),
      el('ul', { class: 'tiles' }, feedback.map((entry) => correction(entry, { model, into: into.input, load }))),
      total > feedback.length && el('p', { class: 'hint' }, `${count(total - feedback.length)} more come up as these are done.`));
  };
  await load();
}

function nothing() {
  return empty('Nothing waits for a review',
    el('p', {}, 'When an answer is wrong, its right class can be chosen beside it on ', el('a', { href: '#/predict' }, 'Predict'), '. Such corrections come here first, because one wrong correction teaches a mistake.'));
}

function correction({ id, label, predicted, version, note, added, damaged }, { model, into, load }) {
  const { input, list } = suggesting(model.classes, { value: label ?? '', required: true, maxlength: 255 });
  const accept = el('button', { class: 'button primary' }, 'Accept');
  const submit = (event) => {
    event.preventDefault();
    busy(accept, async () => {
      const name = into.value.trim() || 'default';
      const approved = await post(address(`/v1/feedback/${id}/approve`, { dataset: name, label: input.value.trim() }));
      toast(approved.duplicate ? `“${name}” has this image already.` : `Added to “${approved.class}” in “${name}” (${approved.split}).`);
      await load();
    });
  };
  const reject = (event) => busy(event.target, async () => {
    await remove(`/v1/feedback/${id}`);
    toast('Rejected: the image is deleted.');
    await load();
  });
  return el('li', {},
    card(null,
      photo(`/v1/feedback/${id}/image`, `Image that should be “${label ?? '?'}”`, { class: 'corrected' }),
      el('p', {}, predicted && ['said ', chip(predicted, 'bad'), ' → '], 'should be ', chip(label ?? 'not said', 'good')),
      note && el('p', {}, note),
      el('p', { class: 'hint' }, moment(added), version && `, version ${version}`),
      damaged && el('p', { class: 'notice bad' }, `The image is damaged: ${damaged}`),
      mayChange('data') && el('form', { class: 'stack', on: { submit } }, field('Class', input), list,
        el('div', { class: 'row' }, accept, button('Reject', { click: reject })))));
}
