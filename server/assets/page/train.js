// Train: what to train on and how long; the jobs there were. One job is shown by job.js.

import { busy, card, el, empty, field, put, segments, select, table } from './dom.js';
import { get, post } from './http.js';
import { showJob, stateChip } from './job.js';
import { may, mayChange, whyNot } from './session.js';
import { counted, moment, percent } from './words.js';

const EFFORT = [['quick', 'Quick'], ['standard', 'Standard'], ['best', 'Best'], ['time', 'By the clock']];
const ABOUT_EFFORT = {
  quick: 'Three passes over the images: a first look.',
  standard: 'What a training takes unless told otherwise.',
  best: 'Forty passes and more variation: the longest.',
  time: 'Ends after as many minutes as you say, with the learning rate brought down in time.',
};
const START = [
  ['auto', 'Decide for me'],
  ['current', 'From the model that serves'],
  ['fresh', 'Afresh'],
];
const ABOUT_START = {
  auto: 'From the model that serves where the images have all of its classes, else afresh.',
  current: 'It goes on learning; new classes are added to it. Classes without images are forgotten.',
  fresh: 'For photos, from weights that know ImageNet; they are in the program.',
};
const GATE = [['no_worse', 'If it is no worse'], ['never', 'When I say so'], ['always', 'In any case']];

/** `#/train`, `#/train/NUMBER`, `#/train/new/DATASET`. */
export async function show(root, { parts: [what, name], signal }) {
  if (what && what !== 'new') return showJob(root, { id: what, signal });
  const [{ jobs }, { datasets }] = await Promise.all([
    get('/v1/jobs', { signal }),
    may('data') ? get('/v1/datasets', { signal }) : { datasets: [] },
  ]);
  put(root,
    el('h1', {}, 'Train a model'),
    mayChange('admin') ? form(datasets, name) : el('p', { class: 'notice' }, `No training can be started: ${whyNot('admin')}`),
    jobs.length > 0 && card('Trainings', list(jobs)));
  return undefined;
}

function form(datasets, wanted) {
  const ready = datasets.filter(({ images }) => images > 0);
  if (!ready.length) {
    return empty('There is nothing to train on yet',
      el('p', {}, 'Add images of what you want to tell apart under ', el('a', { href: '#/data' }, 'Data'), '; then they can be trained on here.'));
  }
  const chosen = { dataset: ready.some(({ name }) => name === wanted) ? wanted : ready[0].name, effort: 'standard', from: 'auto', mode: 'no_worse' };
  const aboutEffort = el('p', { class: 'hint', 'aria-live': 'polite' }, ABOUT_EFFORT.standard);
  const aboutStart = el('p', { class: 'hint', 'aria-live': 'polite' }, ABOUT_START.auto);
  const minutes = el('input', { type: 'number', min: 1, max: 10080, step: 1, value: 5 });
  const epochs = el('input', { type: 'number', min: 1, max: 100000, step: 1, placeholder: 'as chosen above' });
  const time = el('div', { hidden: true }, field('Minutes', minutes));
  const start = el('button', { class: 'button primary' }, 'Start the training');
  const submit = (event) => {
    event.preventDefault();
    busy(start, async () => {
      const job = await post('/retrain', order(chosen, minutes, epochs));
      location.hash = `#/train/${job.id}`;
    });
  };
  const sets = ready.map(({ name, images, classes }) => [name, `${name} (${counted(images, 'image')}, ${counted(classes, 'class', 'classes')})`]);
  return el('form', { class: 'card form', on: { submit } },
    field('Data set', select(sets, chosen.dataset, (value) => { chosen.dataset = value; })),
    group('How long', segments('How long', EFFORT, chosen.effort, (value) => {
      chosen.effort = value;
      aboutEffort.textContent = ABOUT_EFFORT[value];
      time.hidden = value !== 'time';
    }), aboutEffort, time),
    group('Start', segments('Start', START, chosen.from, (value) => {
      chosen.from = value;
      aboutStart.textContent = ABOUT_START[value];
    }), aboutStart),
    group('Let it serve', segments('Let it serve', GATE, chosen.mode, (value) => { chosen.mode = value; })),
    el('details', {}, el('summary', {}, 'More settings'), field('Passes over the images (epochs)', epochs)),
    el('div', { class: 'row' }, start));
}

const group = (title, ...content) => el('div', { class: 'field' }, el('p', { class: 'label', 'aria-hidden': 'true' }, title), content);

/** The body of `POST /retrain`. */
function order({ dataset, effort, from, mode }, minutes, epochs) {
  return {
    dataset,
    from,
    gate: { mode, max_drop: 0, min_accuracy: 0 },
    ...(effort === 'time' ? { time_budget_s: 60 * Number(minutes.value) } : { quality: effort }),
    ...(epochs.value ? { epochs: Number(epochs.value) } : {}),
  };
}

function list(jobs) {
  const columns = [{ title: 'Job' }, { title: 'Data set' }, { title: 'State' }, { title: 'Begun' }, { title: 'Accuracy', number: true }, { title: 'Version' }];
  return table('Trainings', columns, jobs.map(({ id, request, state, started, created, verdict, version, progress }) => [
    el('a', { href: `#/train/${id}` }, `Job ${id}`),
    request.dataset,
    [stateChip(state), state === 'running' && ` ${percent(progress.fraction, 0)}`],
    moment(started ?? created),
    verdict ? percent(verdict.candidate_accuracy) : '–',
    version ? el('a', { href: `#/evaluate/${version}` }, version) : '–',
  ]));
}
