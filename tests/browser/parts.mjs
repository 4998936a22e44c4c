// The parts of the page that need no browser: the writer of archives, and numbers in words.

import { bytes, counted, duration, percent, points, short } from '../../server/assets/page/words.js';
import { same, test } from './harness.mjs';
import { archive, unzip } from './images.mjs';

/** See the module. */
export async function parts({ hands }) {
  await test('an archive that the page writes holds the files that it was given', [], async () => {
    const classes = { 'zwölf 🖐': hands.one.slice(0, 2), empty: [Buffer.alloc(0)], b: [Buffer.from('b')] };
    const files = unzip(await archive(classes));
    same(files.map(({ name }) => name).join('|'), 'zwölf 🖐/000.jpg|zwölf 🖐/001.jpg|empty/000.jpg|b/000.jpg', 'names');
    const wanted = Object.values(classes).flat();
    files.forEach(({ name, bytes: found }, at) => same(found.equals(wanted[at]), true, name));
  });

  await test('numbers are written as people read them', [], async () => {
    const plain = (text) => text.replaceAll('\u00a0', ' ');
    for (const [found, wanted] of [
      [percent(0.9234), '92.3 %'], [percent(0), '0.0 %'], [percent(1), '100.0 %'], [percent(0.00001), '< 0.1 %'],
      [percent(0.99999), '> 99.9 %'], [percent(null), '–'], [percent(0.5, 0), '50 %'],
      [points(0.031), '+3.1'], [points(-0.2), '−20.0'], [points(0.00001), '±0.0'], [points(-0.00001), '±0.0'],
      [bytes(0), '0 bytes'], [bytes(1536), '1.5 KiB'], [bytes(20 * 1024 * 1024), '20 MiB'],
      [duration(0.4), '0 s'], [duration(75), '1 min 15 s'], [duration(3600), '1 h 0 min'], [duration(49 * 3600), '2 days 1 h'],
      [counted(1, 'class', 'classes'), '1 class'], [counted(12345, 'image'), '12,345 images'], [short(0.30000000004), '0.3'],
    ]) same(plain(found), wanted, wanted);
  });
}
