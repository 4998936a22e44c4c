// Numbers, times and names as people read them.

const whole = new Intl.NumberFormat('en');

/** 12345 -> "12,345". */
export const count = (number) => whole.format(number);

/** "1 image", "12,345 images". */
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** 0.9234 -> "92.3 %"; what rounds to all or nothing and is neither says so. */
export function percent(part, digits = 1) {
  if (part === null || part === undefined) return '–';
  const text = (100 * part).toFixed(digits);
  const least = 10 ** -digits;
  if (part > 0 && Number(text) === 0) return `<\u00a0${least}\u00a0%`;
  if (part < 1 && Number(text) === 100) return `>\u00a0${(100 - least).toFixed(digits)}\u00a0%`;
  return `${text}\u00a0%`;
}

/** 0.031 -> "+3.1", in points. */
export function points(difference) {
  if (difference === null || difference === undefined) return '–';
  const text = (100 * difference).toFixed(1);
  return Number(text) === 0 ? '±0.0' : text.startsWith('-') ? text.replace('-', '−') : `+${text}`;
}

/** A number of an axis: no more digits than it needs. */
export const short = (value) => String(Number(value.toPrecision(3)));

/** Digits that fit a loss or a time. */
export function number(value) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

/** Milliseconds. */
export const milliseconds = (value) => (value >= 1000 ? `${(value / 1000).toFixed(1)}\u00a0s` : `${number(value)}\u00a0ms`);

/** 1536 -> "1.5 KiB". */
export function bytes(size) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)}\u00a0${units[unit]}`;
}

/** 75 -> "1 min 15 s". */
export function duration(seconds) {
  const all = Math.max(0, Math.round(seconds));
  if (all < 60) return `${all} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min ${all % 60} s`;
  const hours = Math.floor(all / 3600);
  if (hours < 48) return `${hours} h ${Math.floor((all % 3600) / 60)} min`;
  return `${Math.floor(hours / 24)} days ${hours % 24} h`;
}

/** A moment, given in seconds since 1970. */
export function moment(seconds) {
  const date = new Date(1000 * seconds);
  const today = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  if (today) return time;
  return `${date.toLocaleDateString([], { year: 'numeric', month: 'short', day: 'numeric' })}, ${time}`;
}

/** An image of a data set carries the path that it was uploaded with; its last part is enough to show. */
export const baseName = (name) => name.slice(name.lastIndexOf('/') + 1);
