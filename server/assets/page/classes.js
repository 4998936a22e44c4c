// The classes of a report as a table that can be sorted by each column.

import { el, put, scrolling } from './dom.js';
import { count, percent } from './words.js';

const COLUMNS = [
  { title: 'Class', value: ({ name }) => name, text: ({ name }) => name },
  { title: 'Images', value: ({ support }) => support, text: ({ support }) => count(support), number: true },
  { title: 'Recall', about: 'Of the images of this class, how many are called so', value: ({ recall }) => recall, text: ({ recall }) => percent(recall), number: true },
  { title: 'Precision', about: 'Of what is called so, how many are', value: ({ precision }) => precision, text: ({ precision }) => percent(precision), number: true },
  { title: 'F1', about: 'The harmonic mean of both', value: ({ f1 }) => f1, text: ({ f1 }) => percent(f1), number: true },
];

/** `classes` are the rows of `per_class`; the worst come first. */
export function classTable(classes) {
  let by = COLUMNS.length - 1;
  let falling = false;
  const place = el('div');
  const draw = (focus) => {
    const { value } = COLUMNS[by];
    const order = (a, b) => (typeof value(a) === 'string' ? value(a).localeCompare(value(b), undefined, { numeric: true }) : value(a) - value(b));
    const rows = [...classes].sort((a, b) => (falling ? order(b, a) : order(a, b)));
    const heads = COLUMNS.map(({ title, about, number }, at) => {
      const sort = () => {
        falling = at === by ? !falling : false;
        by = at;
        draw(at);
      };
      return el('th', { scope: 'col', class: number && 'number', 'aria-sort': at === by ? (falling ? 'descending' : 'ascending') : 'none' },
        el('button', { type: 'button', class: 'sort', title: about, on: { click: sort } }, title, el('span', { 'aria-hidden': 'true' }, at === by ? (falling ? ' ↓' : ' ↑') : '')));
    });
    const line = (row) => el('tr', {}, COLUMNS.map(({ text, number }, at) => el(at ? 'td' : 'th', { scope: at ? null : 'row', class: number && 'number' }, text(row))));
    put(place, scrolling('Class by class', el('table', {}, el('thead', {}, el('tr', {}, heads)), el('tbody', {}, rows.map(line)))));
    if (focus !== undefined) place.querySelectorAll('.sort')[focus].focus();
  };
  draw();
  return place;
}
