// A service with keys: the page asks for one, keeps it in the tab, and offers what it allows.

import { Service, open, same, test } from './harness.mjs';

const KEYS = { predict: 'predict-key-0123456789', data: 'data-key-0123456789abc', admin: 'admin-key-0123456789ab' };

/** See the module. */
export async function keys({ program, browser, hands, has }) {
  // Without it the page cannot know that there are keys before it is refused.
  if (!has('/v1/me')) return;
  const service = await Service.start(program, { keys: KEYS });
  const window = await open(browser, service.origin);
  const { page, watch, go, accessible } = window;
  const enter = async (key) => {
    await page.getByRole('button', { name: /^(Enter a key|Key)/ }).first().click();
    await page.getByLabel('Key of this service').fill(key);
    await accessible('the dialog for a key');
    await page.getByRole('button', { name: 'Use it' }).click();
  };
  const screens = async () => (await page.locator('nav[aria-label="Screens"] a').allTextContents()).join(' ');

  try {
    await test('without a key the page asks for one', [window], async () => {
      await go('predict');
      await page.getByText('This needs a key').waitFor();
      await accessible('a page without a key');
    });

    await test('a wrong key is told to be wrong', [window], async () => {
      await enter('nobody-has-this-key-at-all');
      await page.getByText('does not know the key').waitFor();
    });

    await test('a key for predictions opens predictions and no more', [window], async () => {
      await enter(KEYS.predict);
      await page.locator('#images-to-predict').setInputFiles({ name: 'one.jpg', mimeType: 'image/jpeg', buffer: hands.one[0] });
      await page.getByRole('region', { name: 'Answer for one.jpg' }).waitFor();
      await page.getByRole('button', { name: 'Key: predict' }).waitFor();
      same(await screens(), 'Predict Train Evaluate Models Status API', 'screens');
      await go('train');
      await page.getByText('No training can be started').waitFor();
      await go('models');
      same(await page.getByRole('button', { name: /Delete|Promote/ }).count(), 0, 'what it may not do');
      await go('data');
      await page.getByText('This needs a key for “data”').waitFor();
    });

    await test('the key stays in the tab, and in no other', [window], async () => {
      await go('predict');
      await page.reload();
      await page.getByRole('button', { name: 'Key: predict' }).waitFor();
      const other = await open(browser, service.origin);
      await other.go('predict');
      await other.page.getByText('This needs a key').waitFor();
      await other.context.close();
    });

    await test('a key for everything opens everything; images come with the key', [window], async () => {
      await enter(KEYS.admin);
      await page.getByRole('button', { name: 'Key: admin' }).waitFor();
      same(await screens(), 'Predict Data Train Evaluate Models Status API', 'screens');
      await fetch(`${service.origin}/v1/feedback?label=one`, { method: 'POST', body: hands.one[0], headers: { Authorization: `Bearer ${KEYS.predict}` } });
      await go('data/review');
      await page.waitForFunction(() => [...document.querySelectorAll('img.corrected')].some((image) => image.naturalWidth > 0));
      await go('status');
      await page.getByRole('heading', { name: 'Who changed what' }).waitFor();
    });

    await test('a key is forgotten', [window], async () => {
      await page.getByRole('button', { name: 'Key: admin' }).click();
      await page.getByRole('button', { name: 'Forget the key' }).click();
      await page.getByText('This needs a key').waitFor();
      same(await page.evaluate(() => sessionStorage.length), 0, 'what is kept');
    });
    watch.check();
  } finally {
    await window.context.close();
    await service.remove();
  }
}
