// Classifies photographs in the visitor's own browser, with a model of TF.js. No photograph leaves it.
"use strict";

const TOP = 5;
// Browsers limit the size of a canvas, so a photograph is read in strips.
const STRIP_ROWS = 256;

// Resizing as Pillow's bilinear filter does it, which `hubexport classify` uses: where the image shrinks, the filter
// covers all old pixels under a new one. Returns the first old pixel and the weights for each new one.
function filter(from, to) {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const end = Math.min(Math.trunc(center + reach + 0.5), from);
    const heights = Array.from({ length: end - first }, (_, step) =>
      Math.max(1 - Math.abs((first + step + 0.5 - center) / reach), 0),
    );
    const sum = heights.reduce((total, height) => total + height, 0);
    return { first, weights: heights.map((height) => height / sum) };
  });
}

// Returns the image in a file, upright, and without its colour profile, as in training.
async function decoded(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Refusal("This browser cannot read the photograph. Choose an undamaged JPEG, PNG, WebP, GIF or BMP image.");
  }
}

// Yields the rows of an image as RGBA bytes. Transparent areas become white.
function* rowsOf(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = Math.min(STRIP_ROWS, image.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < image.height; top += canvas.height) {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, -top);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let row = 0; row < Math.min(canvas.height, image.height - top); row++) {
      yield data.subarray(4 * canvas.width * row, 4 * canvas.width * (row + 1));
    }
  }
}

// Returns the intensities of the resized image, from 0 to 255, as [size, size, 3].
function resized(image, size) {
  const across = filter(image.width, size);
  const narrow = new Uint8Array(3 * size * image.height); // Rounded, as Pillow does between the two steps.
  let to = 0;
  for (const row of rowsOf(image)) {
    for (const { first, weights } of across) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let step = 0; step < weights.length; step++) sum += weights[step] * row[4 * (first + step) + channel];
        narrow[to++] = sum + 0.5;
      }
    }
  }
  const pixels = new Uint8Array(3 * size * size);
  filter(image.height, size).forEach(({ first, weights }, place) => {
    for (let column = 0; column < 3 * size; column++) {
      let sum = 0;
      for (let step = 0; step < weights.length; step++) sum += weights[step] * narrow[3 * size * (first + step) + column];
      pixels[3 * size * place + column] = sum + 0.5;
    }
  });
  return pixels;
}

function softmax(logits) {
  const largest = logits.reduce((one, other) => Math.max(one, other), -Infinity);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function percent(share) {
  return 0 < share && share < 0.0005 ? "< 0.1%" : `${(100 * share).toFixed(1)}%`;
}

function element(name, className, ...content) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...content);
  return made;
}

// The same elements as in the server's answer.
function answerWith(probabilities, names, remark) {
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const items = order.slice(0, TOP).map((index) => {
    const label = element("span", "label", names?.[index] ?? `class ${index}`);
    if (names?.[index]) label.append(" ", element("span", "remark", `class ${index}`));
    const bar = document.createElement("progress");
    bar.value = probabilities[index];
    bar.setAttribute("aria-hidden", "true");
    return element("li", "", label, " ", element("span", "percent", percent(probabilities[index])), " ", bar);
  });
  const answer = element("div", "answer", element("h2", "", "Top classes"), element("ol", "scores", ...items));
  if (remark) answer.append(element("p", "notice warn", remark));
  answer.id = "answer";
  answer.tabIndex = -1;
  return answer;
}

function loadScript(source) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = source;
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error(`${source} did not load`)));
    document.head.append(script);
  });
}

// Returns a function that classifies files with the form's model. It loads TF.js and the model when it is first called.
function classifierOf(form) {
  const { runtime, model: address, size, output, mapped, remark } = form.dataset;
  let loading = null;
  const load = async () => {
    if (!window.tf) await loadScript(runtime);
    return tf.loadGraphModel(address);
  };
  return async (file, say) => {
    const image = await decoded(file);
    say("Loading the model …");
    loading ??= load();
    let model;
    try {
      model = await loading;
    } catch (error) {
      loading = null;
      console.error(error);
      throw new Refusal("The model did not load. Try again in a moment.");
    }
    say("Classifying …");
    await new Promise((resolve) => setTimeout(resolve, 50)); // So that the page shows that.
    const pixels = resized(image, Number(size));
    image.close();
    const values = mapped === "uint8" ? Int32Array.from(pixels) : Float32Array.from(pixels, (pixel) => pixel / 255);
    const given = tf.tensor(values, [1, Number(size), Number(size), 3], mapped === "uint8" ? "int32" : "float32");
    const made = model.predict(given);
    const scores = await (made instanceof tf.Tensor ? made : made[output]).data();
    tf.dispose([given, made]);
    if (!scores.every(Number.isFinite)) throw new Refusal("The model does not run in this browser. Try another one.");
    return answerWith(output === "logits" ? softmax(scores) : [...scores], model.metadata?.class_names, remark);
  };
}

// A page that was opened as a file may not fetch a model.
const canFetch = location.protocol !== "file:";
for (const form of canFetch ? document.querySelectorAll("form[data-model]") : []) {
  form.hidden = false;
  document.getElementById("untried").hidden = true;
  form.addEventListener("submit", (event) => event.preventDefault());
  makeTryable(form, classifierOf(form));
}
