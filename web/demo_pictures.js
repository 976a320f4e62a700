// The demo page's pictures: dropped, pasted, picked or from the camera; classes, boxes or another picture come out.
import { $, attempt, say, show, showBars, showClasses, showTiming } from "./demo_common.js";
import { sizeOf } from "./preprocess.js";

/** Shows a Classifier, Detector or Stylizer, here or in a worker. */
export function pictures(model, manifest) {
  show("photo");
  const { kind, threshold } = manifest.task;
  const options = {};
  const answer = async (image) => {
    if (kind === "classify") showClasses(await model.classify(image));
    else if (kind === "detect") showBoxes(await model.detect(image, options), sizeOf(image));
    else showPicture(await model.stylize(image), sizeOf(image), manifest.preprocess);
    showTiming(model.timing);
  };
  let stream = null;

  if (kind === "detect") {
    show("sureness");
    const tell = () => ($("least").textContent = `${$("threshold").value} %`);
    $("threshold").value = 100 * threshold;
    tell();
    $("threshold").oninput = attempt(async () => {
      tell();
      options.threshold = $("threshold").value / 100;
      if (!stream && !$("picture").hidden) await answer($("picture"));
    });
  }

  const predict = attempt(async (image, name) => {
    const canvas = $("picture");
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").drawImage(image, 0, 0);
    canvas.setAttribute("aria-label", name || "your picture");
    show("picture");
    show("hint", false);
    $("boxes").replaceChildren();
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
    $("boxes").replaceChildren();
  }
  $("camera").onclick = attempt(async () => {
    if (stream) {
      const last = await createImageBitmap($("video")); // it stays as the picture
      stopCamera();
      return predict(last, "the camera's last picture");
    }
    if (!navigator.mediaDevices) throw new Error("this browser gives no camera to this page");
    const own = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    stream = own;
    const video = $("video");
    video.srcObject = own;
    await video.play();
    show("video");
    show("picture", false);
    $("boxes").replaceChildren();
    show("hint", false);
    $("camera").setAttribute("aria-pressed", "true");
    $("classes").setAttribute("aria-live", "off"); // it changes with every frame
    while (stream === own) {
      await answer(video);
      await new Promise(requestAnimationFrame);
    }
  });
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
