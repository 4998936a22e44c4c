// Evaluate: the numbers of a trained version, and the images behind them.

import { counts, same, test } from './harness.mjs';

/** See the module. */
export async function evaluate({ window, service, has }) {
  const { page, go, accessible } = window;
  const report = async () => {
    const { serving } = await (await fetch(`${service.origin}/v1/models`)).json();
    return (await fetch(`${service.origin}/v1/models/${serving}/evaluation`)).json();
  };

  await test('the numbers are those of the report', [window], async () => {
    const { accuracy, interval, images } = await report();
    const percent = (part) => `${(100 * part).toFixed(1)}`;
    await go('evaluate');
    await page.getByText(`of ${images} images`).waitFor();
    const text = await page.locator('.headline').textContent();
    for (const part of [accuracy, interval[0]]) same(text.includes(percent(part)), true, percent(part));
    await accessible('an evaluation');
  });

  await test('the table of classes is sorted by a click', [window], async () => {
    const table = page.getByRole('region', { name: 'Class by class' });
    const first = () => table.getByRole('rowheader').first().textContent();
    await table.getByRole('button', { name: 'Class' }).click();
    const up = await first();
    await table.getByRole('button', { name: 'Class' }).click();
    same(await table.getByRole('columnheader', { name: 'Class' }).getAttribute('aria-sort'), 'descending', 'direction');
    if (await first() === up) throw new Error('nothing moved');
  });

  await test('a cell of the confusion matrix opens its images', [window], async () => {
    const { confusion, per_class: classes } = await report();
    const matrix = page.getByRole('region', { name: 'What is taken for what' });
    // The diagonal always has some; its images come from the stored answers.
    const at = confusion.findIndex((row, index) => row[index] > 0);
    const { name } = classes[at];
    await matrix.getByRole('button', { name: new RegExp(`^${name} taken for ${name}: ${confusion[at][at]},`) }).click();
    await page.getByRole('heading', { name: `“${name}”, and taken for it` }).waitFor();
    if (has('/v1/models/{version}/predictions')) {
      const images = page.locator('.beside .thumbs img');
      await images.first().waitFor();
      await counts(images, confusion[at][at], 'images behind the cell');
      await page.waitForFunction(() => [...document.querySelectorAll('.beside .thumbs img')].every((image) => image.naturalWidth > 0));
    }
    await accessible('an open cell');
  });

  await test('the threshold says what is answered and what is right', [window], async () => {
    const slider = page.getByLabel('Least probability of an answer');
    await page.waitForFunction(() => document.querySelector('input[type=range]').max === '99');
    await slider.focus();
    for (let step = 0; step < 60; step += 1) await page.keyboard.press('ArrowRight');
    const text = await page.getByText('of the images are answered').textContent();
    const { serving } = await (await fetch(`${service.origin}/v1/models`)).json();
    const { predictions } = await (await fetch(`${service.origin}/v1/models/${serving}/predictions?limit=1000`)).json();
    const kept = predictions.filter(({ probability }) => probability >= 0.6);
    const right = kept.filter(({ label, predicted }) => label === predicted);
    for (const part of [kept.length / predictions.length, right.length / kept.length]) {
      same(text.includes((100 * part).toFixed(1)), true, `${text}: ${part}`);
    }
  });
}
