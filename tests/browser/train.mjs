// Train: from the form to a model that serves, through a reload and a restart of the service.

import { TRAINING, counts, same, test } from './harness.mjs';

/** Passes over the images: enough for a reload and a restart to happen in the middle. */
const EPOCHS = 8;

/** Starts a training by the form; gives its number. */
export async function start({ page, go }, { dataset, epochs, from, serve }) {
  await go(`train/new/${dataset}`);
  await page.getByText('Quick', { exact: true }).click();
  if (from) await page.getByText(from, { exact: true }).click();
  if (serve) await page.getByText(serve, { exact: true }).click();
  await page.getByText('More settings').click();
  await page.getByLabel(/epochs/).fill(String(epochs));
  await page.getByRole('button', { name: 'Start the training' }).click();
  const heading = page.getByRole('heading', { name: /^Job \d+/ });
  await heading.waitFor();
  return Number(/\d+/.exec(await heading.textContent())[0]);
}

/** Waits for the end of a training that is looked at. */
export const ended = (page) => page.getByRole('heading', { name: /The new model (is ready|serves)/ }).waitFor({ timeout: TRAINING });

/** See the module. */
export async function train({ window, service, hands }) {
  const { page, watch, go, accessible } = window;
  let job;

  await test('a training begins, and its progress is seen', [window], async () => {
    job = await start(window, { dataset: 'hands', epochs: EPOCHS, from: 'Afresh', serve: 'When I say so' });
    await page.getByRole('progressbar').waitFor();
    await page.getByText(new RegExp(`[1-9]\\d* of ${EPOCHS}`)).waitFor({ timeout: TRAINING });
    await page.getByRole('img', { name: /Accuracy by epoch/ }).waitFor({ timeout: TRAINING });
    // With as few images it may be right about all of them.
    const { mistakes } = await (await fetch(`${service.origin}/v1/jobs/${job}`)).json();
    if (mistakes) await page.getByRole('heading', { name: /What it gets wrong after epoch/ }).waitFor();
    await accessible('a training');
  });

  await test('it is still there after the page is reloaded', [window], async () => {
    await page.reload();
    await page.getByRole('progressbar').waitFor();
    await page.getByRole('img', { name: /Accuracy by epoch/ }).waitFor();
  });

  await test('it goes on after the service is killed and started again', [window], async () => {
    watch.allow(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|network error/);
    await service.end('SIGKILL');
    await page.getByText('The service does not answer at the moment').waitFor();
    await service.run();
    await page.getByText('The service does not answer at the moment').waitFor({ state: 'detached' });
    await ended(page);
    const record = await (await fetch(`${service.origin}/v1/jobs/${job}`)).json();
    same(record.epochs.length, EPOCHS, 'epochs');
    same(record.attempts > 1, true, 'taken up again');
  });

  await test('the new model stands beside the old one, and is promoted', [window], async () => {
    await page.getByText('It was not promoted by itself').waitFor();
    await page.getByRole('region', { name: 'Class by class' }).waitFor();
    await accessible('a verdict');
    await page.getByRole('button', { name: 'Promote: let it serve' }).click();
    await page.getByRole('heading', { name: 'The new model serves' }).waitFor();
    const { model } = await (await fetch(`${service.origin}/status`)).json();
    same(model.classes.includes('zero'), true, 'the classes that serve');
  });

  await test('it answers on Predict at once', [window], async () => {
    await page.getByRole('link', { name: 'Try it' }).click();
    await page.locator('#images-to-predict').setInputFiles({ name: 'held-out.jpg', mimeType: 'image/jpeg', buffer: hands.zero[50] });
    await page.getByRole('region', { name: 'Answer for held-out.jpg' }).getByText('zero').first().waitFor();
  });

  await test('a training is stopped and its best epoch kept', [window], async () => {
    await start(window, { dataset: 'hands', epochs: 500, serve: 'When I say so' });
    await page.getByRole('button', { name: 'Stop and keep the best' }).click({ timeout: TRAINING });
    await page.getByRole('dialog').getByRole('button', { name: 'Stop and keep the best' }).click();
    await ended(page);
    await page.getByText(/ended early, after \d+ of 500 epochs/).waitFor();
    await accessible('a training that was stopped');
  });

  await test('a training is cancelled', [window], async () => {
    await start(window, { dataset: 'hands', epochs: 500 });
    await page.getByRole('button', { name: 'Cancel the training' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel the training' }).click();
    await page.getByText('cancelled', { exact: true }).waitFor();
    await go('train');
    await counts(page.getByRole('region', { name: 'Trainings' }).getByRole('row'), 4, 'a heading and three trainings');
    await accessible('the list of trainings');
  });
}
