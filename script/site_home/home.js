// The first page: the demo's frame, and a row of digits, each of which is read by the same bundle.
const PREDICTOR = new URL("demo/digits/index.js", document.baseURI);

/** A picture of 8 x 8 values from 0 to 16 as a canvas. */
function drawn(values) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(8, 8);
  values.forEach((value, k) => pixels.data.set([value * 15.9, value * 15.9, value * 15.9, 255], 4 * k));
  context.putImageData(pixels, 0, 0);
  return canvas;
}

async function main(place) {
  const rows = await (await fetch(new URL("demo/held_out.csv", document.baseURI))).text();
  const answer = document.querySelector("#home-answer");
  let predictor = null; // loaded when it is wanted first
  for (const row of rows.trim().split("\n")) {
    const [truth, ...values] = row.split(",").map(Number);
    const button = Object.assign(document.createElement("button"), { type: "button", ariaLabel: `a picture of a ${truth}` });
    button.append(drawn(values));
    button.onclick = async () => {
      const { Predictor } = await import(PREDICTOR);
      predictor ??= Predictor.load(new URL("./", PREDICTOR));
      const { probability } = await (await predictor).run({ image: new Float32Array(values) });
      const best = probability.indexOf(Math.max(...probability));
      answer.textContent = `It is read as ${best} (${(100 * probability[best]).toFixed(1)} %).`;
    };
    place.append(button);
  }
}

/** Makes the frame as high as the page in it, which grows with its answer. */
function fit(frame) {
  const body = frame.contentDocument?.body;
  if (body) new ResizeObserver(() => (frame.style.height = `${body.offsetHeight + 4}px`)).observe(body);
}

const place = document.querySelector("#home-digits");
if (place) {
  const frame = document.querySelector(".home-demo iframe");
  frame.addEventListener("load", () => fit(frame));
  fit(frame); // where it was loaded before this script
  main(place);
}
