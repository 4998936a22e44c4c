// Data: the data sets, and the way to a data set, a class, or the review queue.

import { showClass, showSet } from './dataset.js';
import { chip, el, empty, put } from './dom.js';
import { get } from './http.js';
import { review } from './review.js';
import { mayChange, whyNot } from './session.js';
import { uploader } from './upload.js';
import { bytes, count, counted, moment } from './words.js';

/** `#/data`, `#/data/review`, `#/data/set/NAME`, `#/data/set/NAME/CLASS`. */
export async function show(root, { parts: [kind, name, className], signal }) {
  if (kind === 'review') return review(root, signal);
  if (kind === 'set' && className !== undefined) return showClass(root, { name, className, signal });
  if (kind === 'set' && name) return showSet(root, { name, signal });
  return overview(root, signal);
}

async function overview(root, signal) {
  const [{ datasets }, waiting] = await Promise.all([get('/v1/datasets', { signal }), get('/v1/feedback?limit=1', { signal })]);
  const upload = mayChange('data')
    ? uploader({ names: datasets.map(({ name }) => name), signal, added: (name) => { location.hash = `#/data/set/${encodeURIComponent(name)}`; } })
    : { node: el('p', { class: 'notice' }, `Images cannot be added: ${whyNot('data')}`), take: null };
  const queue = el('a', { class: 'card tile link', href: '#/data/review' },
    el('h2', {}, 'Review'),
    waiting.total ? el('p', {}, chip(count(waiting.total), 'warn'), ` ${waiting.total === 1 ? 'correction waits' : 'corrections wait'} for a look`)
      : el('p', { class: 'hint' }, 'No correction waits.'));
  put(root,
    el('h1', {}, 'Images to learn from'),
    datasets.length
      ? el('div', { class: 'tiles' }, datasets.map(tile), queue)
      : lesson(),
    datasets.length === 0 && waiting.total > 0 && el('div', { class: 'tiles' }, queue),
    upload.node);
  return { drop: upload.take };
}

function tile({ name, images, classes, bytes: size, changed, damaged }) {
  return el('a', { class: 'card tile link', href: `#/data/set/${encodeURIComponent(name)}` },
    el('h2', {}, name),
    el('p', {}, `${counted(images, 'image')} of ${counted(classes, 'class', 'classes')}`),
    el('p', { class: 'hint' }, `${bytes(size)}, changed ${moment(changed)}`),
    damaged > 0 && el('p', {}, chip(`${count(damaged)} damaged`, 'bad')));
}

/** What a data set is, where there is none yet. */
function lesson() {
  return empty('Show it what you want to tell apart',
    el('p', {}, 'One folder for each class, with images in it. The names of the folders become the names of the classes.'),
    el('pre', { class: 'tree', 'aria-label': 'Folders of an example' }, 'photos.zip\n├── cat\n│   ├── 001.jpg\n│   └── 002.jpg\n└── dog\n    ├── 001.jpg\n    └── 002.jpg'),
    el('p', {}, 'Twenty images of each are enough to begin with. To try it at once: ', el('a', { href: '/sample.zip', download: 'hands.zip' }, 'a small ZIP of hands that show digits'), '.'));
}
