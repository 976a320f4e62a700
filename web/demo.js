// The demo page: a picture, a drawing or made-up numbers in; classes as bars, a picture or a table out.
import { Classifier, Predictor, preprocess } from "./index.js";

const $ = (id) => document.getElementById(id);
const show = (id, on = true) => ($(id).hidden = !on);
const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(bytes < 1e4 ? 1 : 0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const milliseconds = (t) => `${t < 10 ? t.toFixed(2) : t.toFixed(1)} ms`;

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

/** Runs something of the user's and shows its error. */
function attempt(action) {
  return async (...args) => {
    try {
      await action(...args);
    } catch (e) {
      say(e.message, true);
    }
  };
}

/** The bundle inside this page, where it is a single file. */
function inlined() {
  const text = (id) => $(id)?.textContent;
  const bytes = (id) => {
    const binary = text(id) === undefined ? null : atob(text(id));
    return binary && Uint8Array.from(binary, (c) => c.charCodeAt(0));
  };
  if (!text("bundle-manifest")) return null;
  const wasm = { simd: bytes("bundle-simd"), relaxed: bytes("bundle-relaxed") };
  return { manifest: JSON.parse(text("bundle-manifest")), wasm, weights: bytes("bundle-weights") ?? undefined };
}

async function main() {
  const parts = inlined();
  const began = performance.now();
  const onProgress = ({ loaded, total }) => {
    $("progress").value = loaded / total;
    say(`Loading ${size(loaded)} of ${size(total)}`);
  };
  let manifest = parts?.manifest;
  const address = new URL(".", document.baseURI);
  if (!parts) {
    const answer = await fetch(new URL("manifest.json", address));
    if (!answer.ok) throw new Error(`manifest.json cannot be loaded: HTTP ${answer.status}`);
    manifest = await answer.json();
  }
  document.title = $("name").textContent = manifest.name;

  const mode = modeOf(manifest);
  const pictures = mode === "photo" && !isPicture(manifest.outputs[0]);
  const load = pictures ? (parts ? Classifier.load : Classifier.inWorker) : Predictor.load;
  const model = await load.call(pictures ? Classifier : Predictor, parts ?? address, { onProgress });
  show("progress", false);
  say(`Ready ${Math.round(performance.now() - began)} ms after the page`);
  const build = model.build ?? model.predictor.build;
  const code = manifest.wasm[build].bytes + (manifest.script_bytes ?? 0);
  $("bytes").textContent = `${size(code)} of code, ${size(manifest.weights?.bytes ?? 0)} of weights. WebAssembly ${
    build === "relaxed" ? "relaxed SIMD" : "SIMD"}; ${(manifest.macs / 1e6).toFixed(1)} million multiply-adds per run.`; // prettier-ignore
  show("work");
  ({ photo, drawing, sample })[mode](model, manifest);
}

/** How this model is shown: by its preprocessing, its first input's shape, or not at all. */
function modeOf({ preprocess: spec, inputs }) {
  const shape = inputs[0]?.shape.join("x");
  if (inputs.length === 1 && ["1x1x8x8", "1x1x28x28", "1x8x8x1", "1x28x28x1"].includes(shape)) return "drawing";
  return spec && inputs.length === 1 ? "photo" : "sample";
}

function isPicture({ shape }) {
  return shape.length === 4 && shape[1] === 3 && shape[2] > 8 && shape[3] > 8;
}

function showClasses(classes) {
  $("classes").replaceChildren(
    ...classes.map(({ label, probability }) => {
      const row = document.createElement("li");
      const part = (name, text) => Object.assign(document.createElement("span"), { className: name, textContent: text });
      const bar = part("bar", "");
      bar.setAttribute("aria-hidden", "true");
      bar.style.width = `${100 * probability}%`;
      row.append(bar, part("label", label.replace(/^n\d{8} /, "")), part("part", `${(100 * probability).toFixed(1)} %`));
      return row;
    }),
  );
}

function showTiming({ preprocess: before, run }) {
  $("timing").textContent = `${milliseconds(run)} for the network, ${milliseconds(before)} for preparing the picture`;
}

// --- a photograph -------------------------------------------------------------------------------------------------

function photo(model, manifest) {
  show("photo");
  const answer = model.classify
    ? async (image) => {
        showClasses(await model.classify(image));
        showTiming(model.timing);
      }
    : async (image) => stylise(model, manifest, image);
  let stream = null;

  const predict = attempt(async (image, name) => {
    const canvas = $("picture");
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").drawImage(image, 0, 0);
    canvas.setAttribute("aria-label", name || "your picture");
    show("picture");
    show("hint", false);
    await answer(image);
    say("");
  });
  const take = attempt(async (file) => {
    if (!file) return;
    stopCamera();
    let image;
    try {
      image = await createImageBitmap(file);
    } catch {
      throw new Error(`${file.name || "this"} is not a picture that the browser can read`);
    }
    await predict(image, file.name);
    image.close();
  });
  const pictureIn = (data) => [...(data?.files ?? [])].find((f) => f.type.startsWith("image/")) ?? data?.files?.[0];

  $("pick").onclick = $("drop").onclick = () => $("file").click();
  $("file").onchange = () => take($("file").files[0]).then(() => ($("file").value = ""));
  document.addEventListener("paste", (e) => take(pictureIn(e.clipboardData)));
  document.addEventListener("dragover", (e) => {
    e.preventDefault();
    $("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
  document.addEventListener("drop", (e) => {
    e.preventDefault();
    $("drop").classList.remove("over");
    take(pictureIn(e.dataTransfer));
  });

  function stopCamera() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    $("camera").setAttribute("aria-pressed", "false");
    $("classes").setAttribute("aria-live", "polite");
    show("video", false);
  }
  $("camera").onclick = attempt(async () => {
    if (stream) return stopCamera();
    if (!navigator.mediaDevices) throw new Error("this browser gives no camera to this page");
    const own = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    stream = own;
    const video = $("video");
    video.srcObject = own;
    await video.play();
    show("video");
    show("picture", false);
    show("hint", false);
    $("camera").setAttribute("aria-pressed", "true");
    $("classes").setAttribute("aria-live", "off"); // it changes with every frame
    while (stream === own) {
      await answer(video);
      await new Promise(requestAnimationFrame);
    }
  });
}

/** A model that makes a picture of a picture. */
async function stylise(model, manifest, image) {
  const spec = manifest.preprocess;
  const began = performance.now();
  const input = preprocess(image, spec);
  const middle = performance.now();
  const outputs = await model.run({ [spec.input]: input });
  showTiming({ preprocess: middle - began, run: performance.now() - middle });
  const { name, shape } = manifest.outputs[0];
  const [, , height, width] = shape;
  const values = outputs[name];
  const scale = values.reduce((a, b) => Math.max(a, b), 0) > 2 ? 1 : 255;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = scale * values[c * width * height + i];
    pixels.data[4 * i + 3] = 255;
  }
  Object.assign($("output"), { width, height }).getContext("2d").putImageData(pixels, 0, 0);
  show("output");
}

// --- a drawn digit ------------------------------------------------------------------------------------------------

function drawing(predictor, manifest) {
  show("drawing");
  const [input] = manifest.inputs;
  const edge = Math.max(...input.shape);
  const [low, high] = manifest.ranges?.[0] ?? [0, 1];
  const between = { input: input.name, height: edge, width: edge, resize: null, channels: "GRAY", scale: (high - low) / 255,
    mean: [-low], std: [1], layout: "NCHW", dtype: input.dtype }; // prettier-ignore
  const spec = manifest.preprocess ?? between;
  const classifier = new Classifier({ ...manifest, manifest: { ...manifest, preprocess: spec }, run: (x) => predictor.run(x) });
  const pad = $("pad");
  const pen = pad.getContext("2d", { willReadFrequently: true });
  const middle = pad.width / 2;
  const cursor = { x: middle, y: middle, down: false };
  Object.assign(pen, { lineWidth: pad.width / 11, lineCap: "round", lineJoin: "round", strokeStyle: "#fff", fillStyle: "#000" });

  const predict = attempt(async () => {
    const image = centred(pad, pen, edge <= 8 ? 1 : 20 / 28);
    if (!image) return clear();
    showClasses(await classifier.classify(image, { topK: 10 }));
    showTiming(classifier.timing);
  });
  function clear() {
    pen.fillRect(0, 0, pad.width, pad.height);
    $("classes").replaceChildren();
    $("timing").textContent = "";
    say("Draw a digit.");
  }
  function line(from, to) {
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x, to.y);
    pen.stroke();
    say("");
  }
  const at = (e) => ({ x: (e.offsetX * pad.width) / pad.clientWidth, y: (e.offsetY * pad.height) / pad.clientHeight });
  let last = null;
  pad.onpointerdown = (e) => {
    pad.setPointerCapture(e.pointerId);
    last = at(e);
    line(last, last);
  };
  pad.onpointermove = (e) => {
    if (!last) return;
    const next = at(e);
    line(last, next);
    last = next;
  };
  pad.onpointerup = pad.onpointercancel = () => {
    last = null;
    predict();
  };
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  pad.onkeydown = (e) => {
    const step = steps[e.key];
    if (e.key === " ") {
      cursor.down = !cursor.down;
      if (cursor.down) line(cursor, cursor);
      say(cursor.down ? "The pen is down." : "The pen is up.");
    } else if (e.key === "Delete" || e.key === "Backspace") {
      clear();
    } else if (step) {
      const inside = (v) => Math.min(pad.width, Math.max(0, v));
      const next = { x: inside(cursor.x + (step[0] * pad.width) / 20), y: inside(cursor.y + (step[1] * pad.width) / 20) };
      if (cursor.down) line(cursor, next);
      Object.assign(cursor, next);
      if (cursor.down) predict();
    } else {
      return;
    }
    e.preventDefault();
  };
  $("clear").onclick = clear;
  clear();
}

/** The drawing as the data sets have it: its ink in the middle, its longer side `part` of the edge; null without ink. */
function centred(pad, pen, part) {
  const { data, width, height } = pen.getImageData(0, 0, pad.width, pad.height);
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[4 * (y * width + x)] < 64) continue;
      [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x + 1), Math.max(bottom, y + 1)];
    }
  }
  if (right <= left) return null;
  const longer = Math.max(right - left, bottom - top);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const scale = (part * width) / longer;
  context.fillRect(0, 0, width, height);
  context.translate(width / 2, height / 2);
  context.scale(scale, scale);
  context.drawImage(pad, -(left + right) / 2, -(top + bottom) / 2);
  return context.getImageData(0, 0, width, height);
}

// --- made-up numbers ----------------------------------------------------------------------------------------------

function sample(predictor, manifest) {
  show("sample");
  $("try").onclick = attempt(async () => {
    const inputs = Object.fromEntries(
      manifest.inputs.map(({ name, dtype, shape }, i) => {
        const [low, high] = manifest.ranges?.[i] ?? [0, 1];
        const count = shape.reduce((n, d) => n * d, 1);
        const value = () => low + Math.random() * (high - low);
        const integer = !dtype.startsWith("float");
        const values = Array.from({ length: count }, () => (integer ? Math.floor(value()) : value()));
        return [name, dtype.endsWith("int64") ? values : new predictorTypes[dtype](values)];
      }),
    );
    const began = performance.now();
    const outputs = await predictor.run(inputs);
    $("timing").textContent = `${milliseconds(performance.now() - began)} for the network`;
    const cell = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
    const row = (tag, texts) => {
      const line = document.createElement("tr");
      line.append(...texts.map((t) => cell(tag, t)));
      return line;
    };
    const rows = manifest.outputs.map(({ name, shape }) => {
      const values = Array.from(outputs[name], Number);
      const smallest = values.reduce((a, b) => Math.min(a, b), Infinity);
      const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
      return row("td", [name, shape.join(" x "), smallest.toPrecision(4), largest.toPrecision(4)]);
    });
    $("values").replaceChildren(row("th", ["output", "shape", "smallest", "largest"]), ...rows);
    show("values");
    say("");
  });
}

const predictorTypes = { float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
  int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array }; // prettier-ignore

attempt(main)();
