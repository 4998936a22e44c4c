// A service that nobody has used yet: what each screen teaches, and the frame around them.

import { same, test } from './harness.mjs';

/** Name of each screen and what is on it when there is nothing. */
const EMPTY = {
  predict: 'Drop images anywhere on this page',
  data: 'Show it what you want to tell apart',
  train: 'There is nothing to train on yet',
  evaluate: 'This service has not measured this version',
  models: 'came with the service',
  status: 'ready',
  'data/review': 'Nothing waits for a review',
};

/** See the module. */
export async function begin({ window, service, has }) {
  const { page, go, accessible, fits } = window;

  for (const [screen, text] of Object.entries(EMPTY)) {
    await test(`an unused service: ${screen}`, [window], async () => {
      await go(screen);
      await page.getByText(text).first().waitFor();
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme });
        await accessible(`${screen}, ${colorScheme}`);
      }
      await page.emulateMedia({ colorScheme: null });
      for (const width of [320, 360, 768, 1280]) {
        await page.setViewportSize({ width, height: 900 });
        await fits(`${screen} at ${width}`);
      }
    });
  }

  await test('what the page weighs, and when it can be used (told, not asserted)', [window], async () => {
    await page.goto('about:blank');
    await page.goto(`${service.origin}/`);
    await page.getByText('Choose images').waitFor();
    const [ready, files] = await page.evaluate(() => [performance.now(), performance.getEntriesByType('resource').filter(({ name }) => name.includes('/assets/')).length]);
    const bytes = await page.evaluate(() => performance.getEntriesByType('resource').reduce((sum, { decodedBodySize }) => sum + decodedBodySize, 0));
    console.log(`        first screen: ${files} files, ${bytes} bytes, usable within ${Math.round(ready)} ms`);
  });

  await test('every link of the page leads somewhere', [window], async () => {
    const links = await page.locator('nav[aria-label="Screens"] a').evaluateAll((list) => list.map((one) => one.getAttribute('href')));
    same(links.join(' '), '#/predict #/data #/train #/evaluate #/models #/status /docs', 'links');
    const docs = await fetch(`${service.origin}/docs`);
    same(docs.status, 200, '/docs');
  });

  await test('the documentation is the same product', [window], async () => {
    // Swagger UI warns of nothing, but asks for its own document: all from this origin.
    await page.goto(`${service.origin}/docs`);
    await page.getByText('Label one or several images').waitFor();
    await page.getByRole('link', { name: 'Models', exact: true }).click();
    await page.getByRole('heading', { name: 'Versions of the model' }).waitFor();
  });

  await test('an unknown address leads to the first screen', [window], async () => {
    await page.goto(`${service.origin}/#/nothing/%E0%A4%A`);
    await page.getByRole('heading', { name: 'What is in the image?' }).waitFor();
  });

  await test('light and dark are chosen and kept', [window], async () => {
    await go('status');
    const dark = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const before = await dark();
    await page.getByRole('button', { name: 'Colours: Auto' }).click();
    await page.getByRole('button', { name: 'Colours: Light' }).click();
    same(await page.getByRole('button', { name: 'Colours: Dark' }).evaluate((button) => button === document.activeElement), true, 'the button keeps the focus');
    const after = await dark();
    if (before === after) throw new Error('dark looks like light');
    await page.reload();
    same(await dark(), after, 'the ground after a reload');
    await page.getByRole('button', { name: 'Colours: Dark' }).click();
  });

  if (has('/sample.zip')) {
    await test('the sample can be downloaded', [window], async () => {
      await go('data');
      const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: /small ZIP/ }).click()]);
      same(download.suggestedFilename(), 'hands.zip', 'name');
    });
  }
}
