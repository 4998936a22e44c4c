// Photos to test with, from the bundled hands that show digits, and archives of them.

import { readFile } from 'node:fs/promises';
import { inflateRawSync } from 'node:zlib';

import { zip } from '../../server/assets/page/zip.js';

const BUNDLED = new URL('../../datasets/bundled/sign-digits/photos.zip', import.meta.url);

/** The classes by the name of their folder in the bundled archive. */
const NAMES = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'];

/** The files of a ZIP, `{ name, bytes }`, by its central directory (APPNOTE 6.3.10). */
export function unzip(archive) {
  const end = archive.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'));
  const files = [];
  let at = archive.readUInt32LE(end + 16);
  for (let left = archive.readUInt16LE(end + 10); left > 0; left -= 1) {
    const [method, packed, nameLength] = [archive.readUInt16LE(at + 10), archive.readUInt32LE(at + 20), archive.readUInt16LE(at + 28)];
    const local = archive.readUInt32LE(at + 42);
    const from = local + 30 + archive.readUInt16LE(local + 26) + archive.readUInt16LE(local + 28);
    const bytes = archive.subarray(from, from + packed);
    const name = archive.toString('utf8', at + 46, at + 46 + nameLength);
    if (!name.endsWith('/')) files.push({ name, bytes: method === 8 ? inflateRawSync(bytes) : bytes });
    at += 46 + nameLength + archive.readUInt16LE(at + 30) + archive.readUInt16LE(at + 32);
  }
  return files;
}

/** The bundled photos by class: `photos().three` is a list of JPEG files. */
export async function photos() {
  const byClass = Object.fromEntries(NAMES.map((name) => [name, []]));
  for (const { name, bytes } of unzip(await readFile(BUNDLED))) {
    byClass[NAMES[Number(name.split('/')[0])]].push(bytes);
  }
  return byClass;
}

/** A ZIP with a folder for each class: `{ cat: [bytes, ..] }`. Written by the page's own writer. */
export async function archive(classes) {
  const files = Object.entries(classes).flatMap(([name, list]) =>
    list.map((bytes, at) => ({ name: `${name}/${String(at).padStart(3, '0')}.jpg`, file: new Blob([bytes]) })));
  const blob = await zip(files, { signal: new AbortController().signal, told: () => {} });
  return Buffer.from(await blob.arrayBuffer());
}
