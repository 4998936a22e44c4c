// Predict: every way in, what is said, and what is wrong with a broken image.

import { counts, same, test } from './harness.mjs';

const jpeg = (name, buffer) => ({ name, mimeType: 'image/jpeg', buffer });

/** Has the page get files as if they were dropped or pasted: `kind` is `drop` or `paste`. */
export async function hand(page, kind, files) {
  const plain = files.map(({ name, mimeType, buffer }) => ({ name, mimeType, base64: buffer.toString('base64') }));
  await page.evaluate(([what, list]) => {
    const transfer = new DataTransfer();
    for (const { name, mimeType, base64 } of list) {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      transfer.items.add(new File([bytes], name, { type: mimeType }));
    }
    const event = what === 'drop'
      ? new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true })
      : new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
  }, [kind, plain]);
}

/** See the module. */
export async function predict({ window, hands, has }) {
  const { page, watch, go, accessible } = window;
  const answered = (name) => page.getByRole('region', { name: `Answer for ${name}` });

  await test('an image is chosen by keyboard alone', [window], async () => {
    await go('predict');
    await page.reload();
    await page.getByText('Choose images').waitFor();
    await page.keyboard.press('Tab');
    same(await page.evaluate(() => document.activeElement.textContent), 'Skip to the content', 'what Tab reaches first');
    await page.keyboard.press('Enter');
    same(await page.evaluate(() => document.activeElement.id), 'main', 'where it leads');
    await page.keyboard.press('Tab');
    const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.keyboard.press('Enter')]);
    await chooser.setFiles(jpeg('chosen.jpg', hands.one[0]));
    await answered('chosen.jpg').waitFor();
    await counts(answered('chosen.jpg').getByRole('list').first().getByRole('listitem'), 5, 'classes');
    await accessible('an answer');
  });

  await test('the answer is that of the service', [window], async () => {
    const answer = await (await fetch(`${new URL(page.url()).origin}/predict`, { method: 'POST', body: hands.one[0] })).json();
    await answered('chosen.jpg').getByRole('heading', { level: 2 }).getByText(answer.predictions[0].known ? answer.label : 'Unknown').waitFor();
    await answered('chosen.jpg').getByText(answer.model.version).waitFor();
    await answered('chosen.jpg').getByText('Where the time went').or(answered('chosen.jpg').getByText('the network')).first().waitFor();
  });

  await test('an image is dropped anywhere, also on another screen', [window], async () => {
    await hand(page, 'drop', [jpeg('dropped.jpg', hands.three[0])]);
    await answered('dropped.jpg').waitFor();
    await go('status');
    await hand(page, 'drop', [jpeg('elsewhere.jpg', hands.three[1])]);
    await answered('elsewhere.jpg').waitFor();
  });

  await test('an image is pasted', [window], async () => {
    await hand(page, 'paste', [jpeg('pasted.jpg', hands.four[0])]);
    await answered('pasted.jpg').waitFor();
  });

  await test('the camera answers live, and an image of it is kept', [window], async () => {
    await page.getByRole('button', { name: 'Use the camera' }).click();
    await page.getByText(/\d\s%|unknown/).first().waitFor();
    await page.getByRole('button', { name: 'Take this image' }).click();
    await answered('camera.jpg').waitFor();
    await page.getByRole('button', { name: 'Stop the camera' }).click();
    await page.getByRole('button', { name: 'Use the camera' }).waitFor();
  });

  await test('several images come as a grid, and a broken one does not stop the others', [window], async () => {
    watch.allow(/status of (422|413)/);
    await page.getByRole('button', { name: 'Clear' }).click();
    const name = '<img src=x onerror=alert(1)>.jpg';
    await page.locator('#images-to-predict').setInputFiles([
      ...hands.zero.slice(0, 3).map((bytes, at) => jpeg(`zero-${at}.jpg`, bytes)), jpeg('broken.jpg', hands.zero[0].subarray(0, 300)), jpeg(name, hands.zero[4]),
      jpeg('large.jpg', Buffer.alloc(20 << 20)),
    ]);
    await page.getByText('6 images, 4 answered').waitFor();
    await page.getByRole('button', { name: /broken\.jpg/ }).click();
    await page.getByRole('alert').getByText('cannot be read').waitFor();
    await accessible('a broken image');
    await page.getByRole('button', { name: /large\.jpg/ }).click();
    await page.getByRole('alert').getByText('larger than the limit').waitFor();
    await page.getByText(name).first().click();
    await answered(name).waitFor();
    same(await page.locator('main img[src="x"]').count(), 0, 'names that became elements');
    await accessible('a grid of answers');
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Save as CSV' }).click()]);
    same(download.suggestedFilename(), 'predictions.csv', 'name');
  });

  await test('the request can be copied, with a name that no shell reads', [window], async () => {
    await page.getByText('The same from your own program').click();
    const code = page.getByLabel('Code', { exact: true });
    same((await code.textContent()).includes('photo.jpg'), true, 'a harmless name');
    for (const language of ['Python', 'JavaScript', 'curl']) {
      await page.getByText(language, { exact: true }).click();
      same((await code.textContent()).includes('/predict'), true, language);
    }
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.getByRole('button', { name: 'Copy', exact: true }).click();
    same((await page.evaluate(() => navigator.clipboard.readText())).startsWith('curl'), true, 'the clipboard');
  });

  if (has('/v1/explain')) {
    await test('where the network looks', [window], async () => {
      const wanted = answered('zero-0.jpg');
      await page.getByRole('button', { name: /zero-0\.jpg/ }).click();
      await wanted.getByText('As the model sees it').click();
      await wanted.getByAltText('The image as the network sees it').waitFor();
      await wanted.getByText('Where it looks').click();
      await wanted.getByText('What speaks for').waitFor();
      await wanted.getByLabel('Strength of the colours').fill('0.3');
      same(await wanted.locator('.layers canvas').evaluate((canvas) => canvas.style.opacity), '0.3', 'opacity');
      const classes = await wanted.getByLabel('Class', { exact: true }).locator('option').allTextContents();
      await wanted.getByLabel('Class', { exact: true }).selectOption(classes.at(-1));
      await wanted.getByText(`What speaks for “${classes.at(-1)}”`).waitFor();
      await accessible('a heat map');
    });
  }

  await test('a service that has gone is told, and its return is seen', [window], async () => {
    watch.allow(/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|Failed to fetch/);
    await page.context().setOffline(true);
    watch.allow(/ERR_INTERNET_DISCONNECTED/);
    await page.locator('#images-to-predict').setInputFiles(jpeg('later.jpg', hands.one[3]));
    await page.getByRole('alert').getByText('The service does not answer.').waitFor();
    await page.context().setOffline(false);
    await page.getByRole('button', { name: 'Try again' }).click();
    await answered('later.jpg').waitFor();
    await page.getByRole('button', { name: 'Clear' }).click();
  });
}
