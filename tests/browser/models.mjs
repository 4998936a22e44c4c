// Models: back and forth between versions; and a wrong answer that is corrected until it is right.

import { same, test } from './harness.mjs';
import { ended, start } from './train.mjs';

const serving = async ({ origin }) => (await (await fetch(`${origin}/v1/models`)).json()).serving;

/** Going back, promoting, comparing, downloading. */
export async function models({ window, service, has }) {
  const { page, go, accessible } = window;

  await test('two versions stand beside each other', [window], async () => {
    await go('models');
    await page.getByRole('region', { name: 'Numbers of both' }).getByText('Accuracy').waitFor();
    await accessible('the versions');
  });

  await test('the version before serves again, and the new one once more', [window], async () => {
    const before = await serving(service);
    await page.getByRole('button', { name: /^Go back to/ }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Go back' }).click();
    await page.getByText('serves again.').waitFor();
    if (await serving(service) === before) throw new Error('nothing changed');
    await page.getByRole('button', { name: `Promote ${before}` }).click();
    await page.getByText(`Version ${before} serves now.`).waitFor();
    same(await serving(service), before, 'the version that serves');
    await page.getByRole('button', { name: 'Undo' }).click();
    await page.getByRole('button', { name: `Promote ${before}` }).click();
    await page.getByText(`Version ${before} serves now.`).waitFor();
  });

  await test('a version is downloaded', [window], async () => {
    const version = await serving(service);
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: `Download ${version}` }).click()]);
    same(/\.ocelli$/.test(download.suggestedFilename()), true, download.suggestedFilename());
  });

  if (has('/v1/models/{version}/report')) {
    await test('the report of a version opens', [window], async () => {
      const version = await serving(service);
      const [report] = await Promise.all([page.context().waitForEvent('page'), page.getByRole('link', { name: `Report of ${version}` }).click()]);
      await report.waitForLoadState();
      same(await report.locator('h1').count() > 0, true, 'a heading');
      await report.close();
    });
  }
}

/** From a wrong answer over the review queue to a model that gives the right one. */
export async function corrections({ window, hands, service }) {
  const { page, go, accessible } = window;
  const wrong = hands.five.slice(0, 8);

  await test('wrong answers are corrected where they are seen', [window], async () => {
    await go('predict');
    if (await page.getByRole('button', { name: 'Clear' }).count()) await page.getByRole('button', { name: 'Clear' }).click();
    for (const [at, buffer] of wrong.entries()) {
      await page.locator('#images-to-predict').setInputFiles({ name: `five-${at}.jpg`, mimeType: 'image/jpeg', buffer });
      const answer = page.getByRole('region', { name: `Answer for five-${at}.jpg` });
      await answer.getByLabel('Wrong? Choose the right class').fill('five');
      await answer.getByRole('button', { name: 'Send for review' }).click();
      await answer.getByText('Thank you').waitFor();
    }
    await accessible('a corrected answer');
  });

  await test('corrections are reviewed: all but one accepted', [window], async () => {
    await page.getByRole('link', { name: 'Review it' }).click();
    await page.getByText(`${wrong.length} corrections in the queue`).waitFor();
    await accessible('the review queue');
    await page.getByLabel('Data set for what is accepted').fill('hands');
    for (let left = wrong.length; left > 1; left -= 1) {
      await page.getByRole('button', { name: 'Accept' }).first().click();
      await page.getByText(left === 2 ? '1 correction in the queue' : `${left - 1} corrections in the queue`).waitFor();
    }
    await page.getByRole('button', { name: 'Reject' }).click();
    await page.getByText('Nothing waits for a review').waitFor();
    const { classes } = await (await fetch(`${service.origin}/v1/datasets/hands`)).json();
    same(classes.find(({ name }) => name === 'five').images, wrong.length - 1, 'images of the new class');
  });

  await test('after a training the corrected image is answered right', [window], async () => {
    await start(window, { dataset: 'hands', epochs: 12, from: 'From the model that serves', serve: 'In any case' });
    await ended(page);
    await page.getByRole('heading', { name: 'The new model serves' }).waitFor();
    await page.getByRole('link', { name: 'Try it' }).click();
    await page.locator('#images-to-predict').setInputFiles({ name: 'again.jpg', mimeType: 'image/jpeg', buffer: wrong[0] });
    await page.getByRole('region', { name: 'Answer for again.jpg' }).getByRole('heading', { name: 'five' }).waitFor();
  });
}
