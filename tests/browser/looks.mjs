// How every screen looks: three widths, both themes, nothing cut off, nothing that a screen reader stumbles over.

import { screenshot, test } from './harness.mjs';

const SCREENS = ['predict', 'data', 'data/set/hands', 'data/set/hands/three', 'data/review', 'train', 'train/1', 'evaluate', 'models', 'status'];

/** A file name for a screen. */
const named = (screen) => screen.replace('data/set/hands/three', 'class').replace('data/set/hands', 'data-set').replace('data/review', 'review').replace('train/1', 'training');

/** See the module. */
export async function looks({ window, hands, screenshots }) {
  const { page, go, accessible, fits } = window;
  for (const colorScheme of ['light', 'dark']) {
    for (const screen of SCREENS) {
      await test(`${screen}, ${colorScheme}`, [window], async () => {
        await page.emulateMedia({ colorScheme });
        for (const width of [1280, 768, 360]) {
          await page.setViewportSize({ width, height: width === 360 ? 780 : 900 });
          await go(screen);
          if (screen === 'predict') await some(page, hands);
          await page.waitForLoadState('networkidle');
          await fits(`${screen} at ${width}`);
          await accessible(`${screen} at ${width}, ${colorScheme}`);
          if (screenshots && (colorScheme === 'light' || width === 1280)) {
            const suffix = [width !== 1280 && width, colorScheme === 'dark' && 'dark'].filter(Boolean).map((part) => `-${part}`).join('');
            await screenshot(window, named(screen) + suffix);
          }
        }
      });
    }
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize({ width: 1280, height: 900 });
  await test('a heat map of what the trained model looks at', [window], () => heat(window, hands, screenshots));
}

/** The heat map of one answer. */
async function heat(window, hands, screenshots) {
  const { page, go, accessible } = window;
  await go('predict');
  await some(page, hands);
  await page.getByText('Where it looks').click();
  await page.getByText('What speaks for').waitFor();
  await accessible('a heat map');
  await page.setViewportSize({ width: 880, height: 720 });
  await page.locator('.answer').evaluate((answer) => answer.scrollIntoView());
  if (screenshots) await screenshot(window, 'heat-map');
  await page.setViewportSize({ width: 1280, height: 900 });
}

/** Some answers to look at. */
async function some(page, hands) {
  if (await page.getByText('5 images, 5 answered').count()) return;
  // Answers of other tests go with a reload.
  await page.reload();
  await page.getByText('Choose images').waitFor();
  const files = ['two', 'zero', 'four', 'five', 'one'].map((name) => ({ name: `${name}.jpg`, mimeType: 'image/jpeg', buffer: hands[name][48] }));
  await page.locator('#images-to-predict').setInputFiles(files);
  await page.getByText('5 images, 5 answered').waitFor();
}
