// A candidate beside the model that serves, class by class, as the gate saw them.

import { chip, el, table } from './dom.js';
import { count, counted, percent, points } from './words.js';

/** The verdict of the gate on `version`. */
export function verdict({ promote, reason, reasons, rule, images, candidate_accuracy: candidate, serving_accuracy: serving, serving: version, classes }, own) {
  const against = reasons.length ? reasons : [reason];
  const asked = classes.filter((one) => one.images > 0);
  const others = classes.filter((one) => one.images === 0).map(({ name }) => name);
  const rows = asked.map(({ name, images: size, candidate_recall: now, serving_recall: before }) => {
    const change = now !== null && before !== null ? now - before : null;
    return [name, count(size), percent(before, 0), percent(now, 0), difference(change)];
  });
  return el('div', { class: 'stack' },
    el('div', { class: 'versus' },
      side('New', own, candidate, true),
      version && side('Serving then', version, serving)),
    el('p', { class: 'hint' }, `Both were asked about the same ${counted(images, 'held-out image')}.`),
    promote
      ? el('p', { class: 'notice good' }, reason)
      : el('div', { class: 'notice warn' }, el('p', {}, el('strong', {}, 'It was not promoted by itself:')), el('ul', { class: 'plain' }, against.map((text) => el('li', {}, text)))),
    asked.length > 0 && table('Class by class', [
      { title: 'Class' }, { title: 'Images', number: true }, { title: 'Recall, serving', number: true }, { title: 'Recall, new', number: true }, { title: 'Points', number: true },
    ], rows),
    others.length > 0 && el('p', { class: 'hint' }, `No held-out images of: ${others.join(', ')}.`),
    rule && el('details', {}, el('summary', {}, 'The rule'), el('p', { class: 'hint' }, rule)));
}

const side = (title, version, accuracy, main) =>
  el('div', { class: main ? 'side main' : 'side' }, el('p', { class: 'label' }, title), el('p', { class: 'large-number' }, percent(accuracy)), el('p', { class: 'hint' }, version));

/** Points up or down, with a colour that repeats the sign. */
export function difference(change) {
  if (change === null) return '–';
  const meaning = change > 0.0005 ? 'good' : change < -0.0005 ? 'bad' : '';
  return chip(points(change), meaning);
}
