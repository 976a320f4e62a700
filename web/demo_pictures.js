// The demo page's pictures: dropped, pasted, chosen or from the camera; shows classes, boxes or another picture.
import { $, attempt, lastOnly, say, show, showBars, showClasses, showTiming } from "./demo_common.js";
import { sizeOf } from "./index.js";

const METHODS = { classify: "classify", detect: "detect", style: "stylize" };
const MOST_PIXELS = 4096 * 4096; // of a canvas on a phone

/** Shows a Classifier, Detector or Stylizer, here or in a worker. */
export function pictures(model, manifest) {
  show("photo");
  const { kind, threshold } = manifest.task;
  const options = {};
  const answer = async (image, wanted = () => true) => {
    const size = sizeOf(image);
    const found = await model[METHODS[kind]](image, options);
    if (!wanted()) return;
    if (kind === "classify") showClasses(found);
    else if (kind === "detect") showBoxes(found, size);
    else showPicture(found, size, manifest.preprocess);
    showTiming(model.timing);
  };
  const clear = () => {
    for (const id of ["classes", "boxes", "timing"]) $(id).replaceChildren();
    for (const id of ["output", "nothing"]) show(id, false);
  };
  let [stream, starting] = [null, false];

  if (kind === "detect") {
    show("confidence");
    const showLeast = () => ($("least").textContent = `${$("threshold").value} %`);
    $("threshold").value = 100 * threshold;
    showLeast();
    const again = lastOnly(attempt(() => answer($("picture"))));
    $("threshold").oninput = () => {
      showLeast();
      options.threshold = $("threshold").value / 100;
      if (!stream && !$("picture").hidden) again();
    };
  }

  async function predict(image, name) {
    const canvas = $("picture");
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").drawImage(image, 0, 0);
    canvas.setAttribute("aria-label", name || "your picture");
    show("picture");
    show("hint", false);
    $("boxes").replaceChildren();
    try {
      await answer(image);
      say("");
    } catch (e) {
      clear();
      throw e;
    } finally {
      image.close();
    }
  }
  const look = lastOnly(
    attempt(async (read, name) => {
      $("answer").setAttribute("aria-busy", "true");
      try {
        await predict(await read(), name);
      } finally {
        $("answer").setAttribute("aria-busy", "false");
      }
    }),
  );
  function take(files) {
    const all = [...(files ?? [])];
    const file = all.find((f) => f.type.startsWith("image/")) ?? all[0];
    if (!file) return;
    stopCamera();
    look(() => pictureIn(file), file.name);
  }

  $("pick").onclick = $("drop").onclick = () => $("file").click();
  $("file").onchange = () => {
    take($("file").files);
    $("file").value = ""; // so that the same file can be picked again
  };
  document.addEventListener("paste", (e) => take(e.clipboardData?.files));
  document.addEventListener("dragover", (e) => {
    e.preventDefault();
    $("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
  document.addEventListener("drop", (e) => {
    e.preventDefault();
    $("drop").classList.remove("over");
    take(e.dataTransfer?.files);
  });

  function stopCamera() {
    if (!stream) return;
    stream.getTracks().forEach((track) => track.stop());
    stream = null;
    $("camera").setAttribute("aria-pressed", "false");
    $("classes").setAttribute("aria-live", "polite");
    show("video", false);
    show("hint");
    clear();
  }
  async function startCamera() {
    if (!navigator.mediaDevices) throw new Error("this browser does not give the page access to a camera");
    starting = true;
    const video = $("video");
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      video.srcObject = stream;
      await video.play();
    } catch (e) {
      stopCamera();
      throw new Error(`the camera cannot be used: ${e.message}`, { cause: e });
    } finally {
      starting = false;
    }
    if (!stream) return;
    show("video");
    show("picture", false);
    clear();
    show("hint", false);
    say("");
    $("camera").setAttribute("aria-pressed", "true");
    $("classes").setAttribute("aria-live", "off"); // it changes with every frame
    const own = stream;
    try {
      while (stream === own) {
        await answer(video, () => stream === own);
        await new Promise(requestAnimationFrame);
      }
    } finally {
      if (stream === own) stopCamera(); // it cannot be looked at
    }
  }
  $("camera").onclick = attempt(async () => {
    if (starting) return; // the browser asks whether it may
    if (!stream) return startCamera();
    const last = await createImageBitmap($("video")); // it stays as the picture
    stopCamera();
    look(async () => last, "the camera's last picture");
  });
}

/** The picture in a file; one of more pixels than a canvas holds everywhere is made smaller. */
async function pictureIn(file) {
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name || "this"} is not a picture that the browser can read`);
  }
  const scale = Math.sqrt(MOST_PIXELS / (image.width * image.height));
  if (scale >= 1) return image;
  const [resizeWidth, resizeHeight] = [image.width, image.height].map((n) => Math.max(1, Math.floor(n * scale)));
  const smaller = await createImageBitmap(image, { resizeWidth, resizeHeight, resizeQuality: "high" });
  image.close();
  return smaller;
}

const hueOf = (index) => (index * 137 + 210) % 360;

/** Boxes over the picture, and the same as a list. */
function showBoxes(found, { width, height }) {
  showBars(found.map(({ label, score, index }) => ({ label, share: score, hue: hueOf(index) })));
  show("nothing", found.length === 0);
  $("boxes").replaceChildren(
    ...found.map((d) => {
      const box = Object.assign(document.createElement("div"), { className: "box" });
      const percent = { left: d.x / width, top: d.y / height, width: d.width / width, height: d.height / height };
      for (const [side, part] of Object.entries(percent)) box.style[side] = `${100 * part}%`;
      box.style.setProperty("--hue", hueOf(d.index));
      box.classList.toggle("high", percent.top < 0.08);
      box.append(Object.assign(document.createElement("span"), { textContent: `${d.label} ${Math.round(100 * d.score)} %` }));
      return box;
    }),
  );
}

/** A picture that the model made; stretched back, where the picture was stretched to the model's size. */
function showPicture({ data, width, height }, size, spec) {
  const made = Object.assign(document.createElement("canvas"), { width, height });
  made.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  const scale = spec.resize ? 0 : Math.max(width / size.width, height / size.height);
  const out = scale ? { width: Math.round(size.width * scale), height: Math.round(size.height * scale) } : { width, height };
  Object.assign($("output"), out).getContext("2d").drawImage(made, 0, 0, out.width, out.height);
  show("output");
}
