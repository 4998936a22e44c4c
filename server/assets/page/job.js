// One training while it runs and after: progress, curves, and the new model beside the one that serves.

import { curves } from './charts.js';
import { announce, busy, button, card, chip, confirmed, el, put, toast } from './dom.js';
import { mistakes } from './gallery.js';
import { address, follow, get, post, remove } from './http.js';
import { mayChange } from './session.js';
import { verdict } from './verdict.js';
import { count, counted, duration, moment, number, percent } from './words.js';

const STATES = {
  queued: ['waits for its turn', ''], running: ['is training', ''], cancelling: ['is ending', 'warn'], promoted: ['serves', 'good'],
  kept: ['done, kept', ''], cancelled: ['cancelled', 'warn'], failed: ['failed', 'bad'],
};
const PHASES = {
  waiting: 'Waiting', loading: 'Reading images', 'finding a learning rate': 'Finding a learning rate', training: 'Training',
  evaluating: 'Measuring on held-out images', comparing: 'Comparing with the model that serves', done: 'Done',
};

/** The state of a job as a chip. */
export const stateChip = (state) => chip(...(STATES[state] ?? [state, '']));

const ended = ({ state }) => !['queued', 'running', 'cancelling'].includes(state);

/** `#/train/NUMBER`. */
export async function showJob(root, { id, signal }) {
  const job = await get(`/v1/jobs/${encodeURIComponent(id)}`, { signal });
  const parts = { progress: el('div', { class: 'stack' }), lost: el('div'), curves: el('div', { class: 'pair' }), wrong: el('div'), notes: el('div'), result: el('div', { class: 'stack' }) };
  put(root,
    el('nav', { class: 'trail', 'aria-label': 'Where this is' }, el('a', { href: '#/train' }, 'Train'), ' / '),
    el('h1', {}, `Job ${job.id}: ${job.request.dataset}`),
    el('p', { class: 'hint' }, described(job)),
    parts.lost, parts.progress, parts.result, parts.curves, parts.wrong, parts.notes);
  drawProgress(parts.progress, job);
  drawCurves(parts.curves, job);
  drawWrong(parts.wrong, job);
  drawNotes(parts.notes, job);
  await drawResult(parts.result, job, signal);
  if (!ended(job)) watch(job, parts, signal);
}

function described({ request, created, start, attempts }) {
  const effort = request.time_budget_s ? `for ${duration(request.time_budget_s)}` : `quality “${request.quality}”`;
  return [
    effort, request.epochs && counted(request.epochs, 'epoch'), `begun ${moment(created)}`,
    start && `started while version ${start} served`, attempts > 1 && `taken up ${counted(attempts - 1, 'time')} after an interruption`,
  ].filter(Boolean).join(', ');
}

/** Follows the job until it ends; the page may be reloaded and the service restarted meanwhile. */
async function watch(job, parts, signal) {
  // The stream begins with all there was.
  job.notes = [];
  const event = (name, data) => {
    if (name === 'progress') {
      job.progress = data;
      drawProgress(parts.progress, job);
    } else if (name === 'epoch') {
      // After an interruption an epoch may be done again.
      job.epochs = [...job.epochs.filter(({ epoch }) => epoch < data.epoch), data];
      drawCurves(parts.curves, job);
      lookAgain();
    } else if (name === 'note') {
      job.notes.push(data.text);
      drawNotes(parts.notes, job);
    } else if (name === 'state' && data.state !== 'queued') {
      // That it once waited is told again with the rest.
      const before = job.state;
      Object.assign(job, data);
      if (before !== job.state) announce(`Job ${job.id} ${STATES[job.state][0]}`);
      drawProgress(parts.progress, job);
    }
  };
  // The events do not bring the images that are answered wrongly.
  const lookAgain = async () => {
    try {
      job.mistakes = (await get(`/v1/jobs/${job.id}`, { signal })).mistakes;
      drawWrong(parts.wrong, job);
    } catch { /* The next epoch asks again. */ }
  };
  const connected = (whether) =>
    put(parts.lost, !whether && el('p', { class: 'notice warn', role: 'status' }, 'The service does not answer at the moment. The training goes on where it was once it is back; this page tries again by itself.'));
  try {
    await follow(`/v1/jobs/${job.id}/events`, { signal, event, connected });
    Object.assign(job, await get(`/v1/jobs/${job.id}`, { signal }));
    drawProgress(parts.progress, job);
    drawCurves(parts.curves, job);
    await drawResult(parts.result, job, signal);
  } catch (problem) {
    if (!signal.aborted) put(parts.lost, el('p', { class: 'notice bad', role: 'alert' }, `${problem.message} ${problem.advice ?? ''}`));
  }
}

function drawProgress(place, job) {
  const { progress, state, error } = job;
  if (ended(job)) {
    put(place, el('p', {}, stateChip(state)), error && el('p', { class: 'notice bad' }, error));
    return;
  }
  const cancel = async (event) => {
    if (!await confirmed('Cancel this training?', 'What it has learnt so far is not kept.', 'Cancel the training')) return;
    await busy(event.target, () => remove(`/v1/jobs/${job.id}`));
  };
  const finish = async (event) => {
    if (!await confirmed('Stop here and keep the best epoch?', 'No further epochs are trained. The best one so far is measured and compared with the model that serves, as at the end of every training.', 'Stop and keep the best')) return;
    await busy(event.target, async () => {
      Object.assign(job, await post(`/v1/jobs/${job.id}/finish`));
      drawProgress(place, job);
    });
  };
  const facts = [
    ['Epoch', progress.epochs ? `${progress.epoch || '–'} of ${progress.epochs}` : '–'],
    ['Time left', progress.eta_s === null ? '–' : duration(progress.eta_s)],
    ['Images a second', progress.images_per_second === null ? '–' : count(Math.round(progress.images_per_second))],
    ['Training loss', number(progress.loss)],
  ];
  // Nothing can be kept before the first epoch is done.
  const stoppable = state === 'running' && job.epochs.length > 0 && !job.finish && progress.phase === 'training';
  const shown = `${state} ${stoppable}`;
  const held = place.querySelector('button');
  if (held && place.dataset.shown === shown) {
    // The button stays, so that whoever is on it stays there.
    place.querySelector('progress').value = progress.fraction;
    put(place.querySelector('.phase'), phase(progress));
    put(place.querySelector('.facts'), facts.map(fact));
    return;
  }
  place.dataset.shown = shown;
  put(place,
    el('p', { class: 'row between' }, el('strong', { class: 'phase' }, phase(progress)), stateChip(state)),
    el('progress', { max: 1, value: progress.fraction, 'aria-label': 'Progress of the training' }),
    el('dl', { class: 'facts' }, facts.map(fact)),
    el('div', { class: 'row' },
      mayChange('admin') && stoppable && button('Stop and keep the best', { click: finish }),
      mayChange('admin') && state !== 'cancelling' && button('Cancel the training', { click: cancel })));
}

const phase = ({ phase: name, fraction, step, steps }) =>
  `${PHASES[name] ?? name}${name === 'loading' && steps ? `: ${count(step)} of ${count(steps)}` : name === 'training' ? `, ${percent(fraction, 0)}` : ''}`;

/** A name and a value below each other. */
export const fact = ([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value));

function drawCurves(place, { epochs, progress, request }) {
  if (!epochs.length) {
    put(place);
    return;
  }
  const line = (name, look, what) => ({ name, look, points: epochs.filter((one) => one[what] !== null).map((one) => [one.epoch, one[what]]) });
  const all = Math.max(progress.epochs, epochs.at(-1).epoch, request.epochs ?? 0);
  const best = epochs.findLast((one) => one.best)?.epoch;
  put(place,
    card('Accuracy', curves('Accuracy by epoch', [line('validation', 'main', 'val_accuracy'), line('training', 'other', 'train_accuracy')], { epochs: all, best, kind: 'share' })),
    card('Loss', curves('Loss by epoch', [line('validation', 'main', 'val_loss'), line('training', 'other', 'train_loss')], { epochs: all, best, kind: 'loss' })));
}

/** What the network is most wrong about after the last epoch. */
function drawWrong(place, { mistakes: wrong, request }) {
  if (!wrong) {
    put(place);
    return;
  }
  const pairs = wrong.pairs.map(({ label, predicted, images }) => el('li', {}, `${count(images)} × ${label} taken for ${predicted}`));
  put(place, card(`What it gets wrong after epoch ${wrong.epoch}`, el('ul', { class: 'plain' }, pairs), mistakes(wrong.images, request.dataset)));
}

function drawNotes(place, { notes }) {
  put(place, notes.length > 0 && card('Notes', el('ul', { class: 'plain' }, notes.map((note) => el('li', {}, note)))));
}

/** The new model beside the one that serves, once there is one. */
async function drawResult(place, job, signal) {
  if (!ended(job) || !job.version) {
    put(place);
    return;
  }
  const of = { model: job.model };
  const { serving } = await get(address('/v1/models', of), { signal });
  const serves = serving === job.version;
  const promote = (event) => busy(event.target, async () => {
    await post(address(`/v1/models/${job.version}/promote`, of));
    toast(`Version ${job.version} serves now.`);
    await drawResult(place, job, signal);
  });
  put(place,
    card(serves ? 'The new model serves' : 'The new model is ready',
      el('div', { class: 'row' },
        !serves && mayChange('admin') && button('Promote: let it serve', { kind: 'primary', click: promote }),
        el('a', { class: 'button', href: `#/evaluate/${job.version}` }, 'How well it does'),
        serves && el('a', { class: 'button', href: '#/predict' }, 'Try it')),
      job.verdict && verdict(job.verdict, job.version)));
}
