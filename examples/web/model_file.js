/**
 * What an .onnx file of gclf says of itself. onnxruntime-web does not give the metadata, so it is
 * read here: field 14 (metadata_props) of the outermost protobuf message, entries of key and value.
 */

import { GclfError } from "./errors.js";

const METADATA = 14;
const VARINT = 0;
const BYTES = 2;
const FIXED_BYTES = { 1: 8, 5: 4 };
const REMEDY = "Export one: gclf-export RUN/model.pt";

// What every spec of schema 1 states; a file that states otherwise is not answered by this code.
const STATED = {
  schema_version: 1,
  input_layout: "NHWC",
  input_dtype: "uint8",
  input_color: "RGB",
  exif_orientation: "applied",
  transparency: "over white",
};
const CHOICES = {
  fit: ["stretch", "crop", "pad"],
  interpolation: ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"],
};

/**
 * Read and check the spec of a model.
 *
 * @param {Uint8Array} bytes The whole file.
 * @returns {Promise<object>} The spec, by the names that it has in the file.
 * @throws {GclfError} It is no model, was changed after its export, or carries no usable spec.
 */
export async function readSpec(bytes) {
  const { metadata, others } = readMetadata(bytes);
  if (!metadata.has("gclf.spec")) {
    throw new GclfError(`this model carries no gclf.spec: gclf did not export it. ${REMEDY}`);
  }
  await checkDigest(metadata.get("gclf.digest"), others);
  let spec;
  try {
    spec = JSON.parse(metadata.get("gclf.spec"));
  } catch (error) {
    throw broken(`not JSON (${error.message})`);
  }
  check(spec);
  return spec;
}

function check(spec) {
  for (const [name, value] of Object.entries(STATED)) {
    if (spec?.[name] !== value) {
      throw broken(`${name} must be ${value}, got ${spec?.[name]}`);
    }
  }
  for (const [name, allowed] of Object.entries(CHOICES)) {
    if (!allowed.includes(spec[name])) throw broken(`${name} must be one of ${allowed}`);
  }
  const [channels, ...sides] = Array.isArray(spec.input_size) ? spec.input_size : [];
  const isSide = (side) => Number.isInteger(side) && side > 0 && side <= 4096;
  if (channels !== 3 || sides.length !== 2 || !sides.every(isSide)) {
    throw broken(`input_size must be [3, height, width], got ${spec.input_size}`);
  }
  const names = Array.isArray(spec.label_names) ? spec.label_names : [];
  if (!names.length || !names.every((name) => typeof name === "string" && name)) {
    throw broken("label_names must be a list of names");
  }
}

function broken(reason) {
  return new GclfError(`the model's gclf.spec breaks the contract: ${reason}. ${REMEDY}`);
}

/** Compare the sha256 of all but the digest's own entry with what that entry records. */
async function checkDigest(recorded, others) {
  // Browsers give no crypto to a page that came over plain http from another machine.
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) return;
  const hash = await subtle.digest("SHA-256", await new Blob(others).arrayBuffer());
  const found = Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0"));
  if (recorded !== found.join("")) {
    throw new GclfError(`this model was changed after it was exported. Copy it again. ${REMEDY}`);
  }
}

/** Return the metadata by key, and all bytes of the file but the digest's entry, in parts. */
function readMetadata(bytes) {
  const metadata = new Map();
  const others = [];
  let start = 0;
  for (const { number, value, begin, end } of fields(bytes)) {
    if (number !== METADATA || !value) continue;
    const entry = { 1: "", 2: "" };
    for (const field of fields(value)) {
      entry[field.number] = field.value ? new TextDecoder().decode(field.value) : "";
    }
    metadata.set(entry[1], entry[2]);
    if (entry[1] === "gclf.digest") {
      others.push(bytes.subarray(start, begin));
      start = end;
    }
  }
  others.push(bytes.subarray(start));
  return { metadata, others };
}

/** Yield each field of a protobuf message; `value` is its bytes, null for a plain number. */
function* fields(message) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0; shift < 70 && at < message.length; shift += 7) {
      const byte = message[at++];
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
    throw new GclfError(`this is no .onnx model, or a damaged one. ${REMEDY}`);
  };
  while (at < message.length) {
    const begin = at;
    const tag = varint();
    const number = Math.floor(tag / 8);
    const wire = tag % 8;
    let value = null;
    if (wire === VARINT) {
      varint();
    } else {
      const length = wire === BYTES ? varint() : (FIXED_BYTES[wire] ?? Infinity);
      if (number === 0 || length > message.length - at) {
        throw new GclfError(`this is no .onnx model, or a damaged one. ${REMEDY}`);
      }
      value = message.subarray(at, at + length);
      at += length;
    }
    yield { number, value, begin, end: at };
  }
}
