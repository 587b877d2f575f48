/**
 * gclf: answers of a model that gclf-export wrote, in a browser or in Node.
 *
 *     import * as ort from "onnxruntime-web";
 *     const classifier = await Classifier.open(ort, modelBytes);
 *     const answers = await classifier.predict(await decode(file));
 *
 * It knows no page. Pixels become the model's as in gclf_runtime/images.py; only the decoding is
 * the browser's (README.md says how far that is from ours).
 */

import { GclfError } from "./errors.js";
import { readSpec } from "./model_file.js";
import { resize } from "./resize.js";

export { GclfError, readSpec };

const MAX_PIXELS = 64_000_000;

/** A model opened once; predict as often as you like. */
export class Classifier {
  /**
   * @param {object} ort The module onnxruntime-web (or onnxruntime-node).
   * @param {Uint8Array} bytes The .onnx file.
   * @throws {GclfError} It is no model of gclf.
   */
  static async open(ort, bytes) {
    const spec = await readSpec(bytes);
    try {
      return new Classifier(ort, await ort.InferenceSession.create(bytes), spec);
    } catch (error) {
      throw new GclfError(`onnxruntime does not open this model (${error.message ?? error})`);
    }
  }

  constructor(ort, session, spec) {
    this.ort = ort;
    this.session = session;
    this.spec = spec;
  }

  /**
   * Classify one picture.
   *
   * @param {{data: ArrayLike<number>, width: number, height: number}} image Upright RGBA, as
   *   `decode` or a canvas's getImageData gives it.
   * @returns {Promise<{label: string, probability: number}[]>} Every class, the likeliest first.
   */
  async predict(image) {
    const [, height, width] = this.spec.input_size;
    const pixels = fit(image, this.spec);
    const images = new this.ort.Tensor("uint8", pixels, [1, height, width, 3]);
    const { probabilities } = await this.session.run({ images }, ["probabilities"]);
    if (probabilities.data.length !== this.spec.label_names.length) {
      throw new GclfError("this model's outputs are not its classes. Export it again");
    }
    const answers = this.spec.label_names.map((label, index) => ({
      label,
      probability: probabilities.data[index],
    }));
    return answers.sort((one, other) => other.probability - one.probability);
  }
}

/**
 * Fit a picture to the model's input.
 *
 * @param {{data: ArrayLike<number>, width: number, height: number}} image Upright RGBA.
 * @param {object} spec Of the model.
 * @returns {Uint8Array} RGB of shape (height, width, 3), transparency over white.
 */
export function fit(image, spec) {
  const [, height, width] = spec.input_size;
  const opaque = overWhite(image);
  const [across, down] = [width / image.width, height / image.height];
  if (spec.fit === "stretch") return resize(opaque, width, height, spec.interpolation).data;
  if (spec.fit === "crop") {
    const scale = Math.max(across, down);
    const cutX = Math.max(0, (image.width - width / scale) / 2);
    const cutY = Math.max(0, (image.height - height / scale) / 2);
    const box = [cutX, cutY, image.width - cutX, image.height - cutY];
    return resize(opaque, width, height, spec.interpolation, box).data;
  }
  const scale = Math.min(across, down);
  const inner = [image.width, image.height].map((side) => Math.max(1, roundToEven(side * scale)));
  return padded(resize(opaque, ...inner, spec.interpolation), width, height);
}

function padded(image, width, height) {
  const result = new Uint8Array(width * height * 3);
  const left = Math.floor((width - image.width) / 2);
  const top = Math.floor((height - image.height) / 2);
  for (let row = 0; row < image.height; row++) {
    const line = image.data.subarray(row * image.width * 3, (row + 1) * image.width * 3);
    result.set(line, ((top + row) * width + left) * 3);
  }
  return result;
}

/** Round halves to the even number, as Python does. */
function roundToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** Blend RGBA over white into RGB, in the whole numbers of Pillow's alpha_composite. */
function overWhite({ data, width, height }) {
  const result = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < result.length; from += 4) {
    const alpha = data[from + 3];
    for (let channel = 0; channel < 3; channel++, to++) {
      const sum = (data[from + channel] * alpha + 255 * (255 - alpha)) * 128 + (128 << 7);
      result[to] = ((sum >> 8) + sum) >> 15;
    }
  }
  return { data: result, width, height };
}

/**
 * Decode a picture's file with the browser, upright and without a conversion of its colours.
 *
 * @param {Blob} file JPEG, PNG, GIF, WebP or BMP, as in gclf_runtime; of several frames the first.
 * @returns {Promise<ImageData>} RGBA.
 * @throws {GclfError} It is none of these, or damaged, or too large.
 */
export async function decode(file) {
  if (!file.size) throw new GclfError("zero bytes. Copy the file again from where it came");
  if (!isPicture(new Uint8Array(await file.slice(0, 32).arrayBuffer()))) {
    throw new GclfError("not an image that is decoded. Use JPEG, PNG, GIF, WebP or BMP");
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch (error) {
    throw new GclfError(`damaged (${error.message}). Save or copy it again`);
  }
  const { width, height } = bitmap;
  try {
    if (width * height > MAX_PIXELS) {
      throw new GclfError(`${width * height} pixels, the limit is ${MAX_PIXELS}. Make it smaller`);
    }
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, width, height);
  } finally {
    bitmap.close();
  }
}

function isPicture(head) {
  const text = String.fromCharCode(...head);
  const isBitmap = text.startsWith("BM") && [12, 16, 40, 52, 56, 64, 108, 124].includes(head[14]);
  return (
    ["\xff\xd8\xff", "\x89PNG\r\n\x1a\n", "GIF87a", "GIF89a"].some((s) => text.startsWith(s)) ||
    (text.startsWith("RIFF") && text.slice(8, 12) === "WEBP") ||
    isBitmap
  );
}
