// Runs graph models in TF.js.
//
//     node run_tfjs.js TASK.json ANSWER.json
//
// It needs @tensorflow/tfjs and @tensorflow/tfjs-backend-wasm. It makes no judgements: tests do.
//
// TASK.json: {"packages": the folder of node_modules, "modules": [{
//     "model": the folder of the model,
//     "backend": "cpu" or "wasm",
//     "images": a file of numbers in the processor's order,
//     "dtype": theirs, "float32" or "int32",
//     "shape": theirs,
//     "outputs": the folder for what the model gives for them, a file of numbers for each output, named by its place},
//     ...]}
// ANSWER.json: {"tfjs", "modules": [{
//     "inputs": [[name, dtype, shape], ...],
//     "metadata": what the model says of itself,
//     "outputs": {key: shape}}, ...]}

const fs = require("fs");
const path = require("path");

async function main(taskFile, answerFile) {
  const task = JSON.parse(fs.readFileSync(taskFile));
  const packages = require("module").createRequire(path.join(task.packages, "package.json"));
  const tf = packages("@tensorflow/tfjs");
  packages("@tensorflow/tfjs-backend-wasm");
  const modules = [];
  for (const module of task.modules) {
    modules.push(await run(tf, module));
  }
  fs.writeFileSync(answerFile, JSON.stringify({ tfjs: tf.version.tfjs, modules }));
}

async function run(tf, task) {
  await tf.setBackend(task.backend);
  if (tf.getBackend() !== task.backend) {
    throw new Error(`no backend ${task.backend}`);
  }
  const model = await tf.loadGraphModel(fromFolder(tf, task.model));
  const numbers = task.dtype === "int32" ? Int32Array : Float32Array;
  const images = tf.tensor(new numbers(whole(fs.readFileSync(task.images))), task.shape, task.dtype);
  const given = model.predict(images);
  // One output comes as it is, several by their keys.
  const outputs = given instanceof tf.Tensor ? { [Object.keys(model.modelSignature.outputs)[0]]: given } : given;
  const shapes = {};
  for (const [place, [key, tensor]] of Object.entries(Object.entries(outputs))) {
    shapes[key] = tensor.shape;
    fs.writeFileSync(path.join(task.outputs, place), Buffer.from(tensor.dataSync().buffer));
    // The same by its key, as users ask for one.
    const again = model.execute({ images }, key);
    if (tf.max(tf.abs(tf.sub(again, tensor))).dataSync()[0] !== 0) {
      throw new Error(`${key} is another tensor when it is asked for`);
    }
  }
  const answer = {
    inputs: model.inputs.map((one) => [one.name, one.dtype, one.shape]),
    metadata: model.metadata,
    outputs: shapes,
  };
  model.dispose();
  tf.disposeVariables();
  return answer;
}

function fromFolder(tf, folder) {
  const read = (name) => fs.readFileSync(path.join(folder, name));
  const load = () =>
    tf.io.getModelArtifactsForJSON(JSON.parse(read("model.json")), async (manifest) => [
      manifest.flatMap((group) => group.weights),
      whole(Buffer.concat(manifest.flatMap((group) => group.paths).map(read))),
    ]);
  return { load };
}

// Returns the bytes of a buffer, which may be a part of a larger one.
function whole(buffer) {
  return new Uint8Array(buffer).buffer;
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
