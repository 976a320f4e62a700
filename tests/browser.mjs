// node browser.mjs CHROMIUM SCENARIO ADDRESS [FILE ...]: plays a scenario in headless Chromium; prints what it saw as JSON.
// playwright-core comes from NODE_PATH, or from a node_modules above this file.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const [executablePath, scenario, address, ...files] = process.argv.slice(2);

const READY = "#work:not([hidden])";
const answer = async (page) => {
  await page.waitForSelector("#classes li");
  return page.$$eval("#classes li", (rows) => rows.map((row) => row.innerText.split("\n")));
};
const base64 = (file) => readFileSync(file).toString("base64");

const scenarios = {
  /** A picked photo, then a dropped and a pasted one. */
  async photo(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    const got = [];
    await page.setInputFiles("#file", files[0]);
    got.push(await answer(page));
    for (const type of ["drop", "paste"]) {
      await page.evaluate(
        async ([type, text]) => {
          document.querySelector("#classes").replaceChildren();
          const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], "photo.png", { type: "image/png" }));
          const init = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
          document.body.dispatchEvent(type === "drop" ? new DragEvent(type, init) : new ClipboardEvent(type, init));
        },
        [type, base64(files[1])],
      );
      got.push(await answer(page));
    }
    const label = await page.getAttribute("#picture", "aria-label");
    return { got, label, timing: await page.textContent("#timing"), bytes: await page.textContent("#bytes") };
  },

  /** A broken picture: told, and nothing shown. */
  async noPicture(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    await page.setInputFiles("#file", { name: "broken.png", mimeType: "image/png", buffer: Buffer.from("no picture") });
    await page.waitForSelector("#status.bad");
    return { status: await page.textContent("#status"), shown: await page.$$eval("#classes li", (rows) => rows.length) };
  },

  /** The page a second time: the weights come from the cache. */
  async cached(page) {
    const asked = [];
    page.on("request", (r) => /\.weights$/.test(r.url()) && asked.push(r.url()));
    await page.goto(address);
    await page.waitForSelector(READY);
    await page.waitForFunction(async () => (await (await caches.open("dlpack")).keys()).length === 1);
    const first = asked.length;
    await page.reload();
    await page.waitForSelector(READY);
    return { first, second: asked.length - first };
  },

  async status(page) {
    await page.goto(address);
    await page.waitForFunction(() => !/^Loading/.test(document.querySelector("#status").textContent));
    return { status: await page.textContent("#status"), shown: await page.isVisible("#work") };
  },

  async withoutSimd(page) {
    await page.addInitScript(() => (WebAssembly.validate = () => false));
    return scenarios.status(page);
  },

  /** The package's own API in the page: in a worker, aborted, disposed of, a thousand times. */
  async api(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    return page.evaluate(async () => {
      const { Classifier, Predictor } = await import("./index.js");
      const pixels = { data: new Uint8ClampedArray(64).fill(99), width: 8, height: 8 };
      const canvas = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
      canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(256).map((_, i) => (i % 4 === 3 ? 255 : 99)), 8, 8), 0, 0);
      const bitmap = await createImageBitmap(canvas);
      const inPage = await Classifier.load(".");
      const inWorker = await Classifier.inWorker(".");
      const numbers = (classes) => classes.map((c) => [c.label, c.probability]);
      const results = [];
      for (const image of [canvas, bitmap]) {
        for (const c of [inPage, inWorker]) results.push(numbers(await c.classify(image)));
      }
      results.push(numbers(await inWorker.classify(pixels)), numbers(await inPage.classify(pixels)));
      const fail = (promise) => promise.then(() => "", (e) => `${e.name}: ${e.message}`);
      const aborted = await fail(Classifier.inWorker(".", { signal: AbortSignal.abort(new Error("enough")) }));
      inWorker.dispose();
      const disposed = await fail(inWorker.classify(pixels));
      const lost = await fail(Classifier.inWorker("./nowhere/"));
      const p = await Predictor.load(".");
      const memory = p._memory.buffer.byteLength;
      const image = new Float32Array(64);
      for (let i = 0; i < 1000; i++) await p.run({ image });
      return { results, aborted, disposed, lost, growth: p._memory.buffer.byteLength - memory, isolated: crossOriginIsolated };
    });
  },

  /** A digit drawn with the keyboard alone. */
  async pad(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    await page.keyboard.press("Tab");
    const focus = await page.evaluate(() => document.activeElement.id);
    for (let i = 0; i < 7; i++) await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Space");
    for (let i = 0; i < 14; i++) await page.keyboard.press("ArrowDown");
    await page.waitForTimeout(200);
    const classes = await answer(page);
    await page.keyboard.press("Delete");
    return { focus, classes, after: await page.$$eval("#classes li", (rows) => rows.length) };
  },

  /** Made-up numbers for a model that takes no picture. */
  async sample(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    await page.click("#try");
    await page.waitForSelector("#values:not([hidden])");
    return { rows: await page.$$eval("#values tr", (rows) => rows.map((r) => r.innerText.split("\t"))) };
  },
};

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage({ viewport: { width: 390, height: 800 } });
  page.setDefaultTimeout(30000);
  const errors = [];
  page.on("console", (m) => m.type() === "error" && errors.push(m.text()));
  page.on("pageerror", (e) => errors.push(e.message));
  const requests = [];
  page.on("request", (r) => requests.push(r.url()));
  const seen = await scenarios[scenario](page);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  const foreign = requests.filter((url) => new URL(url).origin !== new URL(address).origin);
  console.log(JSON.stringify({ ...seen, errors, foreign, wide }));
} finally {
  await browser.close();
}
