// Loads a model of TF.js from a hub, as programs did from tfhub.dev, and runs it on one image.
//
// node load_from_hub.js TASK ANSWER      the task: {packages, handle, shape}; the answer: {shape, values}
"use strict";

const fs = require("fs");
const path = require("path");

async function main(taskFile, answerFile) {
  const { packages, handle, shape } = JSON.parse(fs.readFileSync(taskFile));
  const tf = require(path.join(packages, "node_modules", "@tensorflow", "tfjs"));
  const model = await tf.loadGraphModel(handle, { fromTFHub: true });
  const made = model.predict(tf.fill(shape, 0.5));
  fs.writeFileSync(answerFile, JSON.stringify({ shape: made.shape, values: Array.from(await made.data()) }));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
