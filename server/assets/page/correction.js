// “Wrong? Choose the right one”: a correction goes to the review queue, with the image.

import { busy, el, field, put, suggesting } from './dom.js';
import { address, postImage } from './http.js';
import { may, whyNot } from './session.js';

/** The form for one answered image. */
export function correction(shot, { model }) {
  const [{ label: predicted, labels }] = shot.answer.predictions;
  // A model that says any number of labels takes no corrections of one.
  if (labels) return null;
  if (shot.corrected) return thanks(shot.corrected);
  const refused = whyNot('predict');
  if (refused) return el('p', { class: 'hint' }, `Corrections cannot be sent. ${refused}`);
  const { input, list } = suggesting(model.classes, { required: true, maxlength: 255, placeholder: 'class' });
  const send = el('button', { class: 'button' }, 'Send for review');
  const submit = (event) => {
    event.preventDefault();
    busy(send, async () => {
      const label = input.value.trim();
      const query = { label, predicted, version: shot.answer.model.version };
      await postImage(address('/v1/feedback', query), shot.file);
      shot.corrected = label;
      const note = thanks(label);
      form.replaceWith(note);
      note.focus();
    });
  };
  const form = el('form', { class: 'correction', on: { submit } },
    field('Wrong? Choose the right class', input), list, send,
    el('p', { class: 'hint' }, 'It may be a new one. The image waits for a review; once accepted, it is one to train on.'));
  return form;
}

function thanks(label) {
  const note = el('p', { class: 'notice good', tabindex: '-1' });
  return put(note, `Thank you: “${label}” waits for a review.`, may('data') && [' ', el('a', { href: '#/data/review' }, 'Review it')]);
}
