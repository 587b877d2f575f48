/** The page: takes files, shows answers. */

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
import { Classifier, GclfError, decode } from "./gclf.js";

const SHOWN = 5;
const WANTED = "drop one: RUN/model.onnx, as gclf-export wrote it";
const element = (id) => document.getElementById(id);
let classifier = null;

ort.env.wasm.numThreads = 1; // more need headers that python -m http.server does not send

/** Run one step; what goes wrong is one more line on the page. */
async function attempt(name, step) {
  document.body.setAttribute("aria-busy", "true");
  try {
    await step();
  } catch (error) {
    if (!(error instanceof GclfError)) console.error(error);
    element("error").append(part("div", "", `${name}: ${error.message}`));
  }
  document.body.setAttribute("aria-busy", "false");
}

async function openModel(name, bytes) {
  const older = classifier;
  classifier = await Classifier.open(ort, bytes);
  await older?.session.release(); // its memory is WebAssembly's, which nobody collects
  element("result").hidden = true;
  const { label_names: names, input_size: size, precision, license } = classifier.spec;
  const some = names.slice(0, 8).join(", ") + (names.length > 8 ? ", …" : "");
  const facts = [`${name}: ${names.length} classes (${some})`, `${size[2]}×${size[1]}`, precision];
  element("model").textContent = [...facts, license].filter(Boolean).join(" · ");
  element("model").className = "quiet";
}

function sayNoModel(text) {
  element("model").textContent = `${text}; ${WANTED}`;
  element("model").className = "bad";
}

async function openFirstModel() {
  const address = new URLSearchParams(location.search).get("model") ?? "model.onnx";
  const response = await fetch(address).catch(() => null);
  if (!response?.ok) {
    sayNoModel(`no model at ${address}`);
    return;
  }
  await attempt(address, async () => {
    await openModel(address, new Uint8Array(await response.arrayBuffer()));
  });
  if (!classifier) sayNoModel("no model");
}

async function showAnswer(file) {
  element("result").hidden = true;
  if (!classifier) throw new GclfError(`there is no model yet; ${WANTED}`);
  const answers = await classifier.predict(await decode(file));
  URL.revokeObjectURL(element("picture").src);
  element("picture").src = URL.createObjectURL(file);
  element("name").textContent = file.name;
  element("answers").replaceChildren(...answers.slice(0, SHOWN).map(row));
  element("result").hidden = false;
  return answers[0];
}

function row({ label, probability }) {
  const item = document.createElement("li");
  item.dataset.probability = probability;
  item.append(line(label, probability));
  const bar = part("div", "");
  bar.style.width = `${probability * 100}%`;
  item.append(part("div", "track", bar));
  return item;
}

function line(text, probability) {
  const share = `${(probability * 100).toFixed(1)} %`;
  return part("div", "names", part("span", "", text), part("span", "share", share));
}

function part(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

/** Take files that came together: the last picture is shown, of several each has a line. */
async function take(files) {
  element("error").replaceChildren();
  element("all").replaceChildren();
  for (const file of files) {
    await attempt(file.name, async () => {
      if (file.name.toLowerCase().endsWith(".onnx")) {
        await openModel(file.name, new Uint8Array(await file.arrayBuffer()));
      } else {
        const { label, probability } = await showAnswer(file);
        const answered = part("li", "", line(`${file.name}: ${label}`, probability));
        if (files.length > 1) element("all").append(answered);
      }
    });
  }
}

element("file").addEventListener("change", async (event) => {
  await queue([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
});
for (const type of ["dragover", "dragleave", "drop"]) {
  addEventListener(type, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", type === "dragover");
    if (type === "drop") queue([...event.dataTransfer.files]);
  });
}
let work = openFirstModel();

/** One thing after the other, in the order of their coming. */
function queue(files) {
  work = work.then(() => take(files));
  return work;
}
