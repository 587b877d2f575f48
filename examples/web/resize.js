/**
 * Pillow's resize of 8-bit pixels, bit for bit: antialiased, in two passes of whole numbers, each
 * rounded to 8 bits. The definition is Pillow's Resample.c; version 13 is what gclf-runtime takes.
 */

const BITS = 22; // of a weight's fraction
const HALF = 1 << (BITS - 1);

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

// By Pillow's names: how far a filter reaches in pixels of the smaller picture, and its weights.
const FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  hamming: [
    1,
    (x) =>
      Math.abs(x) < 1
        ? sinc(x) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(x * Math.PI))
        : 0,
  ],
  bicubic: [
    2,
    (signed) => {
      const x = Math.abs(signed);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
    },
  ],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

/**
 * Resize a part of a picture.
 *
 * @param {{data: Uint8Array, width: number, height: number}} image RGB, three bytes per pixel.
 * @param {number} width Of the result.
 * @param {number} height Of the result.
 * @param {string} filter nearest, box, bilinear, hamming, bicubic or lanczos.
 * @param {number[]} box Left, top, right and bottom of the part; all of the picture by default.
 * @returns {{data: Uint8Array, width: number, height: number}}
 */
export function resize(image, width, height, filter, box = [0, 0, image.width, image.height]) {
  const [left, top, right, bottom] = box.map(Math.fround);
  const across = (picture) => {
    if (width === image.width && left === 0 && right === width) return picture;
    const taken = windows(image.width, left, right, width, filter);
    return { ...picture, width, data: pass(picture.data, picture.height, image.width, 3, taken) };
  };
  const down = (picture) => {
    if (height === image.height && top === 0 && bottom === height) return picture;
    const taken = windows(image.height, top, bottom, height, filter);
    return { ...picture, height, data: pass(picture.data, 1, image.height, picture.width * 3, taken) };
  };
  const shrinks = image.height - height;
  const isDownFirst = shrinks > 0 && shrinks > (image.width - width) * 2;
  return isDownFirst ? across(down(image)) : down(across(image));
}

/** List where each result along one side begins to read, and with which weights. */
function windows(size, low, high, count, filter) {
  const scale = Math.fround(high - low) / count;
  if (filter === "nearest") return nearest(scale, low, count);
  const [support, weigh] = FILTERS[filter];
  const stretch = Math.max(1, scale);
  const reach = support * stretch;
  const inverse = 1 / stretch;
  return Array.from({ length: count }, (_, index) => {
    const center = low + (index + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - reach + 0.5));
    const end = Math.min(size, Math.trunc(center + reach + 0.5));
    const weights = new Float64Array(Math.max(0, end - start));
    let total = 0;
    for (let x = 0; x < weights.length; x++) {
      weights[x] = weigh((x + start - center + 0.5) * inverse);
      total += weights[x];
    }
    const divisor = total || 1;
    return { start, weights: Int32Array.from(weights, (weight) => whole(weight / divisor)) };
  });
}

function nearest(scale, low, count) {
  const found = [];
  for (let at = low + scale * 0.5; found.length < count; at += scale) {
    found.push({ start: Math.trunc(at), weights: Int32Array.of(1 << BITS) });
  }
  return found;
}

function whole(weight) {
  return Math.trunc(weight * (1 << BITS) + (weight < 0 ? -0.5 : 0.5));
}

/**
 * Weigh along one side of an array of shape (lines, size, run).
 *
 * @returns {Uint8Array} Of shape (lines, windows.length, run).
 */
function pass(source, lines, size, run, windows) {
  const result = new Uint8ClampedArray(lines * windows.length * run);
  let to = 0;
  for (let line = 0; line < lines; line++) {
    for (const { start, weights } of windows) {
      const from = (line * size + start) * run;
      for (let offset = 0; offset < run; offset++) {
        let sum = HALF;
        for (let k = 0, at = from + offset; k < weights.length; k++, at += run) {
          sum += source[at] * weights[k];
        }
        result[to++] = sum >> BITS;
      }
    }
  }
  return new Uint8Array(result.buffer);
}
