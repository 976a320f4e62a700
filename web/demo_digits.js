// The demo page's pad: a digit is drawn, by pointer or keyboard, and read.
import { $, attempt, say, show, showClasses, showTiming } from "./demo_common.js";
import { Classifier, limits } from "./index.js";

const UNPREPARED =
  "Draw a digit. How ink becomes the input is a guess, as the model was built without --preprocess: if it reads badly, " +
  'say what it was trained on, as with --preprocess \'{"channels": "GRAY", "scale": 0.0039}\' for 0 to 1.';

/** Shows the pad; without preprocessing of the model's own, ink fills the input's range. */
export function digits(predictor, manifest) {
  show("drawing");
  const [input] = manifest.inputs;
  const edge = Math.max(...input.shape);
  const [low, high] = input.quantization ? limits(input.dtype) : (manifest.ranges?.[0] ?? [0, 1]);
  const between = { input: input.name, height: edge, width: edge, resize: null, channels: "GRAY", scale: (high - low) / 255,
    mean: [-low], std: [1], layout: "NCHW", dtype: input.dtype }; // prettier-ignore
  const spec = manifest.preprocess ?? between;
  const classifier = new Classifier({ ...manifest, manifest: { ...manifest, preprocess: spec, shapes: undefined },
    run: (x) => predictor.run(x) }); // prettier-ignore
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
    say(manifest.preprocess ? "Draw a digit." : UNPREPARED);
  }
  function line(from, to) {
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x, to.y);
    pen.stroke();
    say("");
  }
  /** Shows keyboards where the pen is; pointers have their own. */
  function showPen() {
    Object.assign($("pen").style, { left: `${(100 * cursor.x) / pad.width}%`, top: `${(100 * cursor.y) / pad.height}%` });
    $("pen").classList.toggle("down", cursor.down);
    show("pen");
  }
  const at = (e) => ({ x: (e.offsetX * pad.width) / pad.clientWidth, y: (e.offsetY * pad.height) / pad.clientHeight });
  let last = null;
  pad.onpointerdown = (e) => {
    pad.setPointerCapture(e.pointerId);
    show("pen", false);
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
    showPen();
    e.preventDefault();
  };
  pad.onblur = () => show("pen", false);
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
