// Charts in SVG, drawn anew at the width that they have, so that their text keeps its size.

import { el, svg } from './dom.js';
import { count, percent, short } from './words.js';

const FULL_HEIGHT = 220;
/** Room for the numbers of the axes, in pixels. */
const MARGIN = { left: 48, right: 24, top: 12, bottom: 28 };

/** A figure whose content `draw(width)` makes; redrawn when its width changes. */
function figure(label, draw, legend) {
  const canvas = el('div', { class: 'chart' });
  const redraw = new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width > 0) canvas.replaceChildren(draw(Math.round(contentRect.width)));
  });
  redraw.observe(canvas);
  return el('figure', { 'aria-label': label }, canvas, legend);
}

/** Numbers of an axis: three to six round ones within `low..high`. */
function ticks(low, high, most = 5) {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / most));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= most);
  const list = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at += 1) list.push(Number((at * step).toPrecision(12)));
  return list;
}

/** The frame of a chart: maps values to pixels, and draws axes. */
function axes({ width, height = FULL_HEIGHT, x, y, label }) {
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const toX = (value) => MARGIN.left + (inner.width * (value - x.low)) / (x.high - x.low || 1);
  const toY = (value) => MARGIN.top + inner.height * (1 - (value - y.low) / (y.high - y.low || 1));
  const drawing = svg('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label });
  for (const value of ticks(y.low, y.high, 4)) {
    drawing.append(
      svg('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: toY(value), y2: toY(value) }),
      svg('text', { class: 'tick', x: MARGIN.left - 8, y: toY(value) + 4, 'text-anchor': 'end' }, y.text(value)));
  }
  const room = Math.max(2, Math.floor(inner.width / 72));
  for (const value of x.ticks ?? ticks(x.low, x.high, room)) {
    drawing.append(svg('text', { class: 'tick', x: toX(value), y: height - 8, 'text-anchor': 'middle' }, x.text(value)));
  }
  return { drawing, toX, toY, inner };
}

const path = (points, { toX, toY }) =>
  points.map(([x, y], at) => `${at ? 'L' : 'M'}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join('');

/** What the lines are, below a chart. */
function legend(series) {
  return el('ul', { class: 'legend' }, series.map(({ name, look }) => el('li', { class: look }, name)));
}

/**
 * Lines over epochs. `series` are `{ name, look, points: [[x, y], ..] }`, `best` the epoch whose weights are kept, `kind`
 * `share` (0 to 1) or `loss`.
 */
export function curves(label, series, { epochs, best, kind }) {
  const points = series.flatMap((one) => one.points);
  const most = Math.max(...points.map(([, y]) => y));
  const y = kind === 'share'
    ? { low: 0, high: 1, text: (value) => percent(value, 0) }
    : { low: 0, high: most > 0 ? most * 1.05 : 1, text: short };
  const x = { low: 1, high: Math.max(2, epochs), text: count };
  x.ticks = ticks(1, x.high, 6).filter(Number.isInteger);
  const summary = series
    .filter((one) => one.points.length)
    .map((one) => `${one.name} ${y.text(one.points.at(-1)[1])}`)
    .join(', ');
  const draw = (width) => {
    const frame = axes({ width, x, y, label: `${label}: ${summary}` });
    if (best) {
      frame.drawing.append(
        svg('line', { class: 'best', x1: frame.toX(best), x2: frame.toX(best), y1: MARGIN.top, y2: FULL_HEIGHT - MARGIN.bottom }),
        svg('text', {
          class: 'tick', y: MARGIN.top + 8, x: frame.toX(best) + (best > x.high / 2 ? -6 : 6),
          'text-anchor': best > x.high / 2 ? 'end' : 'start',
        }, 'best'));
    }
    for (const one of series) {
      if (one.points.length > 1) frame.drawing.append(svg('path', { class: `line ${one.look}`, d: path(one.points, frame) }));
      const end = one.points.at(-1);
      if (end) frame.drawing.append(svg('circle', { class: `dot ${one.look}`, cx: frame.toX(end[0]), cy: frame.toY(end[1]), r: 3.5 }));
    }
    return frame.drawing;
  };
  return figure(label, draw, legend(series));
}

/** How often predictions of a probability are right: bars, beside the line where they would be as right as they say. */
export function reliability(bins) {
  const used = bins.filter(({ images }) => images > 0);
  const share = { low: 0, high: 1, text: (value) => percent(value, 0) };
  const text = used.map(({ confidence, accuracy }) => `said ${percent(confidence, 0)}, right ${percent(accuracy, 0)}`).join('; ');
  const draw = (width) => {
    const frame = axes({ width, x: { ...share, ticks: [0, 0.25, 0.5, 0.75, 1] }, y: share, label: `Reliability: ${text}` });
    const most = Math.max(...used.map(({ images }) => images));
    for (const { low, high, images, confidence, accuracy } of used) {
      frame.drawing.append(
        svg('rect', {
          class: 'bar', x: frame.toX(low) + 1, width: Math.max(1, frame.toX(high) - frame.toX(low) - 2),
          y: frame.toY(accuracy), height: Math.max(1, frame.toY(0) - frame.toY(accuracy)), opacity: 0.35 + (0.65 * images) / most,
        }, svg('title', {}, `${count(images)} images: said ${percent(confidence)}, right ${percent(accuracy)}`)));
    }
    frame.drawing.append(svg('line', { class: 'ideal', x1: frame.toX(0), y1: frame.toY(0), x2: frame.toX(1), y2: frame.toY(1) }));
    return frame.drawing;
  };
  return figure('Reliability', draw, legend([
    { name: 'right, of the images with this probability', look: 'main' }, { name: 'well calibrated', look: 'other' },
  ]));
}

/** A step curve of accuracy over coverage, and a point on it. `points` are `{ coverage, accuracy }` by falling coverage. */
export function coverage(points, now) {
  const share = { low: 0, high: 1, text: (value) => percent(value, 0) };
  const known = points.filter(({ accuracy }) => accuracy !== null);
  const least = Math.floor(Math.min(...known.map(({ accuracy }) => accuracy)) * 10) / 10;
  const draw = (width) => {
    const y = { ...share, low: Math.min(least, 0.9) };
    const frame = axes({ width, x: { ...share, ticks: [0, 0.25, 0.5, 0.75, 1] }, y, label: 'Accuracy of the answered images over their share' });
    frame.drawing.append(svg('path', { class: 'line main', d: path(known.map((point) => [point.coverage, point.accuracy]), frame) }));
    if (now.accuracy !== null) frame.drawing.append(svg('circle', { class: 'dot main', cx: frame.toX(now.coverage), cy: frame.toY(now.accuracy), r: 5 }));
    return frame.drawing;
  };
  return figure('Accuracy over coverage', draw);
}

/** Lines over a day. `series` are `{ name, look, points: [[seconds, y], ..] }`; `text` writes a value of the axis. */
export function day(label, series, text) {
  const points = series.flatMap((one) => one.points);
  const times = points.map(([at]) => at);
  const most = Math.max(0, ...points.map(([, y]) => y));
  const hours = (at) => new Date(1000 * at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  const x = { low: Math.min(...times), high: Math.max(...times), text: hours };
  if (x.low === x.high) x.low -= 3600;
  const draw = (width) => {
    const room = Math.max(2, Math.floor(width / 120));
    x.ticks = Array.from({ length: room }, (_, at) => x.low + ((at + 0.5) * (x.high - x.low)) / room);
    const frame = axes({ width, height: 160, x, y: { low: 0, high: most > 0 ? most * 1.05 : 1, text }, label });
    for (const one of series) {
      frame.drawing.append(svg('path', { class: `line ${one.look}`, d: path(one.points, frame) }));
      const end = one.points.at(-1);
      if (end) frame.drawing.append(svg('circle', { class: `dot ${one.look}`, cx: frame.toX(end[0]), cy: frame.toY(end[1]), r: 3 }));
    }
    return frame.drawing;
  };
  return figure(label, draw, series.length > 1 ? legend(series) : null);
}

/** Rows of a label, a bar and a number. `rows` are `{ label, share (0 to 1), text, main }`. */
export function bars(rows) {
  return el('ol', { class: 'bars' }, rows.map(({ label, share, text, main, mark }) =>
    el('li', { class: main ? 'main' : '' },
      el('span', { class: 'name', title: label }, label),
      el('span', { class: 'track', 'aria-hidden': 'true' },
        el('span', { class: 'full', style: { width: `${Math.max(0.4, 100 * share)}%` } }),
        mark !== undefined && el('span', { class: 'mark', style: { left: `${100 * mark}%` } })),
      el('span', { class: 'value' }, text))));
}

/** Parts of a whole as one bar and a list. `parts` are `{ label, size, text }`. */
export function shares(label, parts) {
  const all = parts.reduce((sum, { size }) => sum + size, 0) || 1;
  return el('figure', { class: 'shares', 'aria-label': label },
    el('div', { class: 'parts', 'aria-hidden': 'true' }, parts.map(({ size }, at) =>
      el('span', { class: `part-${at}`, style: { width: `${(100 * size) / all}%` } }))),
    el('ul', { class: 'legend' }, parts.map(({ label: name, text }, at) =>
      el('li', { class: `part-${at}` }, `${name} `, el('strong', {}, text)))));
}
