// The request of this page, to copy into a shell or a program.

import { button, copy, el, put, segments } from './dom.js';
import { key } from './http.js';
import { ofModel } from './model.js';

/** A name that means nothing to a shell or a language; others are replaced, as file names come from strangers. */
const fileName = (name) => (/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name) ? name : 'photo.jpg');

const WRITERS = {
  curl: (url, name) => [
    `curl --data-binary @${name} \\`,
    ...(key() ? ['  -H "Authorization: Bearer $OCELLI_KEY" \\'] : []),
    `  -H "Content-Type: application/octet-stream" \\`,
    `  "${url}"`,
  ].join('\n'),
  Python: (url, name) => [
    'import json, os, urllib.request',
    '',
    'request = urllib.request.Request(',
    `    "${url}",`,
    `    data=open("${name}", "rb").read(),`,
    key()
      ? '    headers={"Content-Type": "application/octet-stream",\n             "Authorization": "Bearer " + os.environ["OCELLI_KEY"]},'
      : '    headers={"Content-Type": "application/octet-stream"},',
    ')',
    'answer = json.load(urllib.request.urlopen(request))',
    'print(answer["label"], answer["probability"])',
  ].join('\n'),
  JavaScript: (url, name) => [
    '// Node 20 or later',
    'import { readFile } from "node:fs/promises";',
    '',
    `const response = await fetch("${url}", {`,
    '  method: "POST",',
    `  headers: { "Content-Type": "application/octet-stream"${key() ? ', Authorization: `Bearer ${process.env.OCELLI_KEY}`' : ''} },`,
    `  body: await readFile("${name}"),`,
    '});',
    'const { label, probability } = await response.json();',
    'console.log(label, probability);',
  ].join('\n'),
};

/** One of the languages, with a button that copies it. */
export function snippets({ name }) {
  const code = el('code');
  const write = (language) => put(code, WRITERS[language](`${location.origin}${ofModel('/predict')}`, fileName(name)));
  write('curl');
  return el('div', { class: 'snippets' },
    el('div', { class: 'row between' },
      segments('Language', Object.keys(WRITERS).map((language) => [language, language]), 'curl', write),
      button('Copy', { click: () => copy(code.textContent, 'The text') })),
    el('pre', { tabindex: '0', 'aria-label': 'Code' }, code));
}
