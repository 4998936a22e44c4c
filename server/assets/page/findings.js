// What `POST /v1/inspect` says of an archive: the same as `ocelli inspect`.

import { bars } from './charts.js';
import { chip, el } from './dom.js';
import { count, counted } from './words.js';

const MEANING = { problem: 'bad', warning: 'warn', note: '' };

/** The report as a part of the page. */
export function findings(report) {
  const { notes, classes, images, files, width, height, rotated, findings: found, label_search: search } = report;
  const [reading, ...others] = notes;
  const most = Math.max(1, ...classes.map((one) => one.images));
  const sizes = width && height && `${width.min} × ${height.min} to ${width.max} × ${height.max} pixels, half of them up to ${width.median} × ${height.median}`;
  return el('div', { class: 'stack findings' },
    el('p', {}, `${counted(images, 'image')} of ${counted(classes.length, 'class', 'classes')} can be read`, files > images && `, of ${counted(files, 'file')}`, sizes && `; ${sizes}`,
      rotated > 0 && `; ${count(rotated)} are turned upright by what their camera noted`, '.'),
    reading && el('p', { class: 'hint' }, `It is ${reading}.`),
    bars(classes.slice(0, 60).map(({ name, images: size }) => ({ label: name, share: size / most, text: count(size), main: true }))),
    found.length ? el('ul', { class: 'list' }, found.map(finding)) : el('p', { class: 'notice good' }, 'Nothing speaks against these images.'),
    (others.length > 0 || search?.note) && el('details', {}, el('summary', {}, 'Notes'), el('ul', { class: 'plain' }, [...others, search?.note].filter(Boolean).map((note) => el('li', {}, note)))));
}

function finding({ severity, text, advice, files, files_total: total }) {
  const pictures = files.filter(({ thumbnail }) => thumbnail);
  return el('li', {},
    el('p', {}, chip(severity, MEANING[severity]), ' ', el('strong', {}, text)),
    advice && el('p', { class: 'hint' }, advice),
    pictures.length > 0 && el('ul', { class: 'thumbs' }, pictures.map(({ thumbnail, name, classes, suggested }) =>
      el('li', {}, el('img', { src: `data:image/png;base64,${thumbnail}`, alt: name, title: name }),
        el('span', { class: 'name' }, classes.join(', '), suggested && ` → ${suggested}?`)))),
    files.length > 0 && el('details', {}, el('summary', {}, counted(total, 'file')),
      el('ul', { class: 'plain' }, files.map(({ name, detail }) => el('li', {}, el('strong', {}, name), detail && ` ${detail}`))),
      total > files.length && el('p', { class: 'hint' }, `and ${count(total - files.length)} more`)));
}
