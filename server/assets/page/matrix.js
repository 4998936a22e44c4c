// The confusion matrix as a table: a cell is a button that opens its images; arrows move between cells.

import { el, put, scrolling, segments } from './dom.js';
import { count, percent } from './words.js';

/** Most classes of a matrix; with more, those that are mixed up most are shown. */
const MOST = 24;

/** The matrix of a report; `open(label, predicted)` shows the images of a cell. */
export function matrix({ confusion, per_class: perClass }, open) {
  const names = perClass.map(({ name }) => name);
  const shown = chosen(confusion);
  let share = false;
  const place = el('div');
  const draw = () => put(place, grid(confusion, { names, shown, share, open }));
  draw();
  return el('div', { class: 'stack' },
    segments('Numbers in the cells', [['count', 'Images'], ['share', 'Share of the row']], 'count', (value) => { share = value === 'share'; draw(); }),
    shown.length < names.length && el('p', { class: 'hint' }, `The ${MOST} of ${count(names.length)} classes that are mixed up most.`),
    place);
}

/** Indices of the classes that are shown, in the order of the model. */
function chosen(confusion) {
  const mixed = confusion.map((row, at) => row.reduce((sum, value, other) => (other === at ? sum : sum + value + confusion[other][at]), 0));
  const order = [...mixed.keys()].sort((a, b) => mixed[b] - mixed[a] || a - b);
  return order.slice(0, MOST).sort((a, b) => a - b);
}

function grid(confusion, { names, shown, share, open }) {
  const cells = [];
  const body = shown.map((row, y) => {
    const sum = confusion[row].reduce((all, value) => all + value, 0);
    cells.push([]);
    return el('tr', {}, el('th', { scope: 'row', title: names[row] }, names[row]), shown.map((column, x) => {
      const value = confusion[row][column];
      const part = sum ? value / sum : 0;
      const text = share ? percent(part, 0) : count(value);
      if (!value) return el('td', {}, el('span', { class: 'none' }, share ? '' : '·'));
      const press = () => open(names[row], names[column]);
      const cell = el('button', {
        type: 'button', class: row === column ? 'cell right' : 'cell wrong', 'aria-label': `${names[row]} taken for ${names[column]}: ${count(value)}, ${percent(part, 0)}`,
        style: { '--part': `${Math.round(100 * part)}%` }, data: { strong: String(part > 0.55) }, on: { click: press, keydown: (event) => move(event, cells, y, x) },
      }, text);
      cells[y][x] = cell;
      return el('td', {}, cell);
    }));
  });
  const head = el('tr', {}, el('td', {}), shown.map((column) => el('th', { scope: 'col' }, el('span', { title: names[column] }, names[column]))));
  return scrolling('What is taken for what', el('table', { class: 'matrix' }, el('thead', {}, head), el('tbody', {}, body)));
}

/** To the next cell with images in the direction of an arrow. */
function move(event, cells, y, x) {
  const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
  if (!down && !right) return;
  event.preventDefault();
  for (let row = y + down, column = x + right; row >= 0 && column >= 0 && row < cells.length && column < cells.length; row += down, column += right) {
    if (cells[row][column]) {
      cells[row][column].focus();
      return;
    }
  }
}
