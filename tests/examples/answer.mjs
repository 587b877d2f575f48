// Run the example's module in Node: node answer.mjs NODE_MODULES EXAMPLE FOLDER
// FOLDER/job.json lists models with pictures (raw RGBA beside it). The answers go to standard
// output; where a task brings its own spec, the fitted pixels go beside the picture.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, example, folder] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(path));
const ort = await load(join(modules, "onnxruntime-web", "dist", "ort.node.min.mjs"));
ort.env.wasm.numThreads = 1;
const { Classifier, fit, readSpec } = await load(join(example, "gclf.js"));

async function answer({ model, spec, mark, pictures }) {
  const bytes = await readFile(model);
  let classifier = { spec: { ...(await readSpec(bytes)), ...spec } };
  if (!spec) classifier = await Classifier.open(ort, bytes);
  const answers = [];
  for (const { name, width, height } of pictures) {
    const image = { data: await readFile(join(folder, name)), width, height };
    if (spec) await writeFile(join(folder, `${name}.${mark}`), fit(image, classifier.spec));
    else answers.push(await classifier.predict(image));
  }
  return answers;
}

const results = [];
for (const task of JSON.parse(await readFile(join(folder, "job.json")))) {
  results.push(await answer(task).catch((error) => ({ name: error.name, error: error.message })));
}
console.log(JSON.stringify(results));
