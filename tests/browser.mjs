// node browser.mjs BROWSER: plays scenarios in one headless browser. {ready: true} goes out once it runs. Then a line of
// JSON comes in, {scenario, address, files}, and one goes out: {seen}, what the scenario saw, or {seen: {failed}}. Before
// and between, {step} tells what is waited for. Chromium is driven by playwright-core, Firefox by puppeteer-core, from
// NODE_PATH or a node_modules above this file.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const executablePath = process.argv[2];
const browserName = /firefox/.test(executablePath) ? "firefox" : "chromium";
let address, files;

// Seconds: for a browser to start (tried twice), for one call, for what a page is waited for, and to close the browser.
const [START_S, CALL_S, WAIT_S, CLOSE_S] = [60, 110, 60, 15];

const READY = "#work:not([hidden])";
const answer = async (page) => {
  await page.waitForSelector("#classes li");
  return page.$$eval("#classes li", (rows) => rows.map((row) => row.innerText.split("\n")));
};
const base64 = (file) => readFileSync(file).toString("base64");

/** Draws a vertical line on the pad, by keyboard. */
async function drawOne(page) {
  await page.keyboard.press("Tab");
  const focus = await page.evaluate(() => document.activeElement.id);
  for (let i = 0; i < 7; i++) await page.keyboard.press("ArrowUp");
  await page.keyboard.press(" ");
  for (let i = 0; i < 14; i++) await page.keyboard.press("ArrowDown");
  let classes, before;
  do {
    before = JSON.stringify(classes);
    await page.waitForTimeout(200);
    classes = await answer(page);
  } while (JSON.stringify(classes) !== before);
  const pen = await page.evaluate(() => {
    const [pen, pad] = ["#pen", "#pad"].map((id) => document.querySelector(id).getBoundingClientRect());
    return [(pen.left + pen.width / 2 - pad.left) / pad.width, (pen.top + pen.height / 2 - pad.top) / pad.height];
  });
  return { focus, classes, pen };
}

/** Bytes of memory that this process's descendants hold: the browser's. */
function browserMemory() {
  const parents = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      parents.set(Number(pid), Number(/\) \S+ (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, "latin1"))[1]));
    } catch {} // it has just ended
  }
  const ours = (pid) => pid === process.pid || (parents.has(pid) && ours(parents.get(pid)));
  let pages = 0;
  for (const pid of parents.keys()) {
    if (pid === process.pid || !ours(pid)) continue;
    try {
      pages += Number(readFileSync(`/proc/${pid}/statm`, "latin1").split(" ")[1]);
    } catch {}
  }
  return pages * 4096;
}

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
          const data = { files: [new File([bytes], "photo.png", { type: "image/png" })] };
          const event = new Event(type, { bubbles: true, cancelable: true }); // Firefox makes no ClipboardEvent with files
          document.body.dispatchEvent(Object.assign(event, { dataTransfer: data, clipboardData: data }));
        },
        [type, base64(files[1])],
      );
      got.push(await answer(page));
    }
    const label = await page.getAttribute("#picture", "aria-label");
    return { got, label, timing: await page.textContent("#timing"), bytes: await page.textContent("#bytes") };
  },

  /** Two pictures at once, the first of which takes far longer to read; then the camera, started by a double click. */
  async latest(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    const texts = files.map(base64);
    await page.evaluate((texts) => {
      texts.forEach((text, i) => {
        const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const dataTransfer = { files: [new File([bytes], `${i}.png`, { type: "image/png" })] };
        document.body.dispatchEvent(Object.assign(new Event("drop", { bubbles: true, cancelable: true }), { dataTransfer }));
      });
    }, texts);
    const done = (label) => {
      const picture = document.querySelector("#picture");
      const size = [picture.width, picture.height];
      const ready = picture.ariaLabel === label && document.querySelector("#answer").ariaBusy === "false";
      return ready && { size, first: document.querySelector("#classes li").innerText.split("\n")[0] };
    };
    const until = async (label) => (await page.waitForFunction(done, ...(page.isFirefox ? [{}, label] : [label]))).jsonValue();
    const last = await until("1.png");

    await page.evaluate(() => {
      globalThis.streams = [];
      navigator.mediaDevices.getUserMedia = async () => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 24 });
        const pen = canvas.getContext("2d");
        setInterval(() => pen.fillRect(0, 0, 32, 24), 20);
        streams.push(canvas.captureStream());
        return streams.at(-1);
      };
      document.querySelector("#camera").click();
      document.querySelector("#camera").click();
    });
    await page.waitForFunction(() => !document.querySelector("#video").hidden && document.querySelector("#classes li"));
    const camera = await page.getAttribute("#camera", "aria-pressed");
    await page.click("#camera");
    const frame = await until("the camera's last picture");
    const tracks = await page.evaluate(() => streams.flatMap((s) => s.getTracks()).map((track) => track.readyState));
    await page.evaluate(() => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("Permission denied", "NotAllowedError"));
    });
    await page.click("#camera");
    await page.waitForSelector("#status.bad");
    return { last, camera, frame, tracks, status: await page.textContent("#status") };
  },

  /** A broken picture: told, and nothing shown. */
  async noPicture(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    await page.setInputFiles("#file", files[0]);
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

  /** The page from what it has kept, after the server (its process is files[0]) has ended. */
  async offline(page) {
    await page.goto(address);
    await page.waitForFunction(() => /without a network/.test(document.querySelector("#bytes").textContent));
    process.kill(Number(files[0]), "SIGTERM");
    const ended = async () => {
      while (
        await fetch(address).then(
          () => true,
          () => false,
        )
      )
        await new Promise((done) => setTimeout(done, 50));
    };
    await within(WAIT_S, "waiting for the server's end", ended);
    await page.reload();
    await page.waitForSelector(READY);
    return drawOne(page);
  },

  /** A detector, a model that makes pictures and one that writes, in the folders files[1] and files[2]. */
  async tasks(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    await page.setInputFiles("#file", files[0]);
    const list = await answer(page);
    const boxes = await page.evaluate(() => {
      const frame = document.querySelector("#picture").getBoundingClientRect();
      return [...document.querySelectorAll(".box")].map((box) => {
        const { left, top, width, height } = box.getBoundingClientRect();
        const part = [
          (left - frame.left) / frame.width,
          (top - frame.top) / frame.height,
          width / frame.width,
          height / frame.height,
        ];
        return [box.textContent, ...part];
      });
    });
    const none = await page.evaluate(async () => {
      const slider = document.querySelector("#threshold");
      slider.value = 95;
      slider.dispatchEvent(new Event("input"));
      while (document.querySelector("#classes li")) await new Promise((done) => setTimeout(done, 20));
      return [!document.querySelector("#nothing").hidden, document.querySelectorAll(".box").length];
    });

    await page.goto(address + files[1]);
    await page.waitForSelector(READY);
    await page.setInputFiles("#file", files[0]);
    await page.waitForSelector("#output:not([hidden])");
    const pixels = await page.evaluate(() => {
      const [made, given] = ["#output", "#picture"].map((id) => document.querySelector(id));
      const middle = (canvas) => [...canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data];
      return { made: middle(made), given: middle(given), shape: made.width / made.height / (given.width / given.height) };
    });

    await page.goto(address + files[2]);
    await page.waitForSelector(READY);
    const texts = [];
    for (const [length, temperature] of [
      [50, 0],
      [20000, 1],
    ]) {
      await page.evaluate(
        ([length, temperature]) => {
          for (const [id, value] of Object.entries({ length, temperature })) document.querySelector(`#${id}`).value = value;
        },
        [length, temperature],
      );
      await page.click("#write");
      if (length > 1000) await page.click("#write"); // it is "Stop" now
      await page.waitForFunction(() => document.querySelector("#text").getAttribute("aria-busy") === "false");
      texts.push(await page.textContent("#text"));
    }
    return { list, boxes, none, pixels, texts, button: await page.textContent("#write") };
  },

  /** Predictors of tens of megabytes, made, used and disposed of, one after the other. */
  async disposed(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    const round = async (count) =>
      page.evaluate(async (count) => {
        const { Predictor } = await import("./index.js");
        let sum = 0;
        for (let i = 0; i < count; i++) {
          const p = await Predictor.load(".");
          const [{ name, shape }] = p.inputs;
          const { y } = await p.run({ [name]: new Float32Array(shape[1]).fill(i) });
          sum += y[y.length - 1];
          p.dispose();
        }
        return sum;
      }, count);
    await round(2);
    const before = browserMemory();
    let [most, sum] = [0, 0];
    for (let i = 0; i < 10; i++) {
      sum += await round(5);
      most = Math.max(most, browserMemory());
    }
    return { growth: most - before, sum };
  },

  /** The package's own API in the page: in a worker, aborted, disposed of, a thousand times. */
  async api(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    return page.evaluate(async () => {
      const { Classifier, Predictor } = await import("./index.js");
      const pixels = { data: new Uint8ClampedArray(64).fill(99), width: 8, height: 8 };
      const canvas = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
      canvas.getContext("2d").putImageData(
        new ImageData(
          new Uint8ClampedArray(256).map((_, i) => (i % 4 === 3 ? 255 : 99)),
          8,
          8,
        ),
        0,
        0,
      );
      const bitmap = await createImageBitmap(canvas);
      const inPage = await Classifier.load(".");
      const inWorker = await Classifier.inWorker(".");
      const numbers = (classes) => classes.map((c) => [c.label, c.probability]);
      const results = [];
      for (const image of [canvas, bitmap]) {
        for (const c of [inPage, inWorker]) results.push(numbers(await c.classify(image)));
      }
      results.push(numbers(await inWorker.classify(pixels)), numbers(await inPage.classify(pixels)));
      const fail = (promise) =>
        promise.then(
          () => "",
          (e) => `${e.name}: ${e.message}`,
        );
      const aborted = await fail(Classifier.inWorker(".", { signal: AbortSignal.abort(new Error("enough")) }));
      const midway = [];
      for (const load of [Classifier.inWorker, Classifier.load, Predictor.load]) {
        const control = new AbortController();
        const options = { cache: false, signal: control.signal, onProgress: () => control.abort(new Error("changed my mind")) };
        midway.push(await fail(load.call(load === Predictor.load ? Predictor : Classifier, ".", options)));
      }
      const [stopped, unready] = [[], []];
      for (const c of [inPage, inWorker]) {
        const control = new AbortController();
        const answer = c.classify(canvas, { signal: control.signal });
        control.abort(new Error("no more"));
        stopped.push(await fail(answer));
        unready.push(await fail(c.classify(new Image())));
      }
      const { pixelsOf, preprocess } = await import("./index.js");
      const large = new OffscreenCanvas(5000, 4001); // more than is read at a time
      const pen = large.getContext("2d");
      for (let i = 0; i < 300; i++) {
        pen.fillStyle = `rgb(${(i * 77) % 256} ${(i * 13) % 256} ${i % 256} / 0.9)`;
        pen.fillRect((i * 997) % 4600, (i * 631) % 3700, 400, 300);
      }
      const spec = { ...inPage.spec, resize: 60, height: 50, width: 50 };
      const whole = preprocess(pixelsOf(large), spec);
      const banded = preprocess(large, spec).filter((v, i) => v !== whole[i]).length;
      inWorker.dispose();
      const disposed = await fail(inWorker.classify(pixels));
      const lost = await fail(Classifier.inWorker("./nowhere/"));
      const p = await Predictor.load(".");
      const memory = p._memory.buffer.byteLength;
      const image = new Float32Array(64);
      for (let i = 0; i < 1000; i++) await p.run({ image });
      const growth = p._memory.buffer.byteLength - memory;
      return {
        results,
        aborted,
        midway,
        stopped,
        unready,
        banded,
        values: new Set(whole).size,
        disposed,
        lost,
        growth,
        isolated: crossOriginIsolated,
      };
    });
  },

  /**
   * Classifiers on at most one and two threads, made in the ways files[1 ...] name ("load FOLDER", "inWorker FOLDER"):
   * what they find, and what the console tells. Then, with a picture files[0], the demo page.
   */
  async threads(page) {
    const ways = {};
    let lines;
    page.on("console", (m) => lines?.push(m.text()));
    for (const name of files.slice(1)) {
      const [way, folder] = name.split(" ");
      await page.goto(new URL(`${folder}/empty.html`, address).href);
      lines = [];
      const made = await page.evaluate(async (way) => {
        const { Classifier } = await import("./index.js");
        const data = new Uint8ClampedArray(60 * 50 * 3).map((_, i) => (i * i) % 251);
        const found = [];
        for (const threads of [1, 2]) {
          const c = await Classifier[way](".", { threads });
          const classes = await c.classify({ data, width: 60, height: 50 });
          const { build, threads: count } = c.predictor ?? c;
          found.push({ count, build, classes });
          c.dispose();
        }
        return { found, isolated: crossOriginIsolated };
      }, way);
      await page.evaluate(() => console.log("all is told"));
      const told = async () => {
        while (!lines.includes("all is told")) await new Promise((done) => setTimeout(done, 20));
      };
      await within(WAIT_S, "waiting for the console", told);
      await page.waitForTimeout(100); // what a worker tells comes by another way
      ways[name] = { ...made, lines: lines.filter((line) => /thread/.test(line)) };
      lines = null;
    }
    await page.goto(address);
    for (let visit = 0; visit < 2; visit++) {
      // the second goes through the service worker
      if (visit) await page.reload();
      await page.waitForFunction(() => /without a network/.test(document.querySelector("#bytes").textContent));
      await page.setInputFiles("#file", files[0]);
      await page.waitForFunction(() => document.querySelector("#timing").textContent);
    }
    const kept = await page.evaluate(async () => (await (await caches.open("dlpack page")).keys()).map((r) => r.url));
    const processors = await page.evaluate(() => navigator.hardwareConcurrency);
    const [timing, bytes] = [await page.textContent("#timing"), await page.textContent("#bytes")];
    return { ways, timing, bytes, kept: kept.map((url) => url.split("/").pop()), processors };
  },

  /** A digit drawn with the keyboard alone. */
  async pad(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    const { focus, classes, pen } = await drawOne(page);
    await page.keyboard.press("Delete");
    return { focus, classes, pen, after: await page.$$eval("#classes li", (rows) => rows.length) };
  },

  /** Made-up numbers for a model that takes no picture. */
  async sample(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    await page.click("#try");
    await page.waitForSelector("#values:not([hidden])");
    return { rows: await page.$$eval("#values tr", (rows) => rows.map((r) => r.innerText.split("\t"))) };
  },

  /** A row of a table: as it is at first, after a number is typed, and a random one. */
  async table(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    const names = await page.$$eval("#fields label", (labels) => labels.map((l) => l.textContent));
    const limits = await page.$$eval("#fields [type=range]", (sliders) => sliders.map((s) => [s.min, s.max].map(Number)));
    const first = await answer(page);
    await page.evaluate(() => {
      const number = document.querySelector("#feature-1");
      number.value = "3";
      number.dispatchEvent(new Event("input"));
    });
    await page.waitForTimeout(200);
    const typed = await answer(page);
    await page.click("#random");
    await page.waitForTimeout(200);
    const random = await page.$$eval("#fields [type=number]", (inputs) => inputs.map((i) => Number(i.value)));
    return { names, limits, first, typed, random, others: await page.$$eval("#values tr", (rows) => rows.length) };
  },

  /** A decoder with its tokenizer, by keyboard: it writes, is stopped, and is given texts that it cannot go on from. */
  async writing(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    const idle = () => page.waitForFunction(() => document.querySelector("#go").textContent === "Write");
    const seen = async () => {
      await idle();
      const [text, status, timing] = ["#text", "#status", "#timing"].map((id) => page.textContent(id));
      return { text: await text, status: await status, timing: await timing };
    };
    const set = (values) =>
      page.evaluate((values) => {
        for (const [id, value] of Object.entries(values)) document.getElementById(id).value = value;
      }, values);
    const [settings, ...prompts] = files.map((text) => JSON.parse(text));
    await page.keyboard.press("Tab");
    await set(settings);
    await page.keyboard.down("Control");
    await page.keyboard.press("Enter");
    await page.keyboard.up("Control");
    await page.waitForFunction(() => /token/.test(document.querySelector("#timing").textContent));
    const written = [await seen()];
    await page.evaluate(() => {
      document.querySelector("#go").click(); // and, before the worker can have answered, "Stop"
      document.querySelector("#go").click();
    });
    written.push(await seen());
    for (const prompt of prompts) {
      await set({ prompt });
      await page.click("#go");
      written.push(await seen());
    }
    return { written };
  },

  /** A model that embeds texts: those in files[1] compared with files[0], then one that is too long. */
  /** Speech: a file of sound, a recording of a microphone that hums, one that is refused, and a page that may not. */
  async hearing(page) {
    await page.addInitScript(() => {
      navigator.mediaDevices.getUserMedia = async () => {
        if (window.refused) throw new DOMException("no", "NotAllowedError");
        const context = new AudioContext();
        const hum = context.createOscillator();
        const target = context.createMediaStreamDestination();
        hum.connect(target);
        hum.start();
        return target.stream;
      };
    });
    await page.goto(address);
    await page.waitForSelector(READY);
    const lines = () => page.$$eval(".said", (rows) => rows.map((row) => row.lastChild.textContent));
    const status = async (pattern) => {
      const there = (text) => new RegExp(text).test(document.querySelector("#status").textContent);
      await page.waitForFunction(there, pattern);
      return page.textContent("#status");
    };
    await page.setInputFiles("#sound", files[0]);
    await status("Done");
    const [written, timing] = [await lines(), await page.textContent("#timing")];
    await page.click("#record");
    await status("Recording, 0:00.[3-9]");
    const meter = await page.isVisible("#level");
    await page.click("#record");
    await status("Done|Nothing");
    const recorded = await page.textContent("#timing");
    await page.setInputFiles("#sound", files[1]);
    const noSound = await status("browser can read");
    await page.evaluate(() => (window.refused = true));
    await page.click("#record");
    const refused = await status("may not use");
    await page.addInitScript(() => Object.defineProperty(globalThis, "isSecureContext", { value: false }));
    await page.reload();
    await page.waitForSelector(READY);
    const insecure = [await page.isDisabled("#record"), await page.textContent("#room")];
    return { written, timing, meter, recorded, noSound, refused, insecure };
  },

  async similar(page) {
    await page.goto(address);
    await page.waitForSelector(READY);
    const compared = async (one, others) => {
      await page.evaluate(
        ([one, others]) => {
          document.querySelector("#one").value = one;
          document.querySelector("#others").value = others;
          document.querySelector("#classes").replaceChildren();
          document.querySelector("#status").textContent = "waiting";
        },
        [one, others],
      );
      await page.click("#compare");
      await page.waitForFunction(() => document.querySelector("#status").textContent !== "waiting");
      const rows = await page.$$eval("#classes li", (rows) => rows.map((row) => row.innerText.split("\n")));
      return { rows, status: await page.textContent("#status") };
    };
    const shown = await compared(files[0], files[1]);
    const refused = await compared(files[0], files[2]);
    await page.click("#cut");
    return { shown, refused, cut: await compared(files[0], files[2]), empty: await compared("", files[1]) };
  },

  /** The page opened as a file, from which browsers load no modules. */
  async opened(page) {
    await page.goto(address);
    await page.waitForFunction(() => !document.querySelector("#status").textContent.startsWith("Loading"));
    return { status: await page.textContent("#status") };
  },
};

const viewport = { width: 390, height: 800 };

async function openChromium() {
  const options = { executablePath, args: ["--no-sandbox"], timeout: START_S * 1000, handleSIGTERM: false };
  const browser = await require("playwright-core").chromium.launch(options);
  return { browser, newPage: () => browser.newPage({ viewport }) };
}

/**
 * Firefox with as much of playwright's page as the scenarios use. Without its crash reporter: what crashes is to end,
 * and not to wait for a process that writes it down.
 */
async function openFirefox() {
  const browser = await require("puppeteer-core").launch({
    browser: "firefox",
    executablePath,
    headless: true,
    timeout: START_S * 1000,
    protocolTimeout: CALL_S * 1000,
    handleSIGTERM: false,
    env: { ...process.env, MOZ_CRASHREPORTER_DISABLE: "1" },
  });
  const newPage = async () => {
    const page = await browser.newPage();
    await page.setViewport(viewport);
    return Object.assign(page, {
      isFirefox: true,
      addInitScript: (f) => page.evaluateOnNewDocument(f),
      setInputFiles: async (selector, file) => (await page.$(selector)).uploadFile(file),
      textContent: (selector) => page.$eval(selector, (e) => e.textContent),
      getAttribute: (selector, name) => page.$eval(selector, (e, name) => e.getAttribute(name), name),
      isVisible: (selector) => page.$eval(selector, (e) => e.checkVisibility()),
      waitForTimeout: (time) => new Promise((done) => setTimeout(done, time)),
    });
  };
  return { browser, newPage };
}

const say = (message) => console.log(JSON.stringify(message));

/** What a promise gives, if it does so in time; `step` is told before, and in the error where it does not. */
function within(seconds, step, begin) {
  say({ step });
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`${step}: took over ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([begin(), late]).finally(() => clearTimeout(timer));
}

/** A page whose asynchronous calls are steps. */
function stepwise(page, scenario) {
  const called =
    (name) =>
    (...args) => {
      const result = page[name](...args);
      if (typeof result?.then !== "function") return result;
      return within(CALL_S, `${browserName}: ${scenario}: ${name} ${String(args[0]).slice(0, 120)}`, () => result);
    };
  return new Proxy(page, { get: (_, name) => (typeof page[name] === "function" ? called(name) : page[name]) });
}

/** What a scenario sees on a page of its own, and what holds for every page. */
async function play(scenario, page) {
  page.setDefaultTimeout(WAIT_S * 1000);
  const errors = [];
  page.on("console", (m) => m.type() === "error" && errors.push(m.text()));
  page.on("pageerror", (e) => errors.push(String(e.message ?? e)));
  const requests = [];
  page.on("request", (r) => requests.push(r.url()));
  const seen = await scenarios[scenario](page);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  const foreign = requests.filter((url) => new URL(url).origin !== new URL(address).origin);
  return { ...seen, errors, foreign, wide };
}

/** The browser; one that has not started in time, as on a machine that was busy just then, is started once more. */
async function opened() {
  const open = browserName === "firefox" ? openFirefox : openChromium;
  const step = `${browserName}: waiting for its ${browserName === "firefox" ? "WebDriver session" : "debugging pipe"}`;
  return within(START_S, step, open).catch((e) => {
    console.error(e.stack);
    return within(START_S, `${step} again`, open);
  });
}

// The libraries end a browser with this process: it is that which has to end, whatever the browser does. Puppeteer's
// browser.close() leaves a browser running that does not answer, and Node waits for its children.
process.on("SIGTERM", () => process.exit(143));
const { browser, newPage } = await opened();
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  ({ address, files } = job);
  try {
    const page = stepwise(await within(CALL_S, `${browserName}: opening a page`, newPage), job.scenario);
    const seen = await play(job.scenario, page).catch((e) => ({ failed: e.stack }));
    await page.close();
    say({ seen });
  } catch (e) {
    say({ seen: { failed: e.stack } });
    process.exit(1); // a browser that opens or closes no page is of no more use
  }
}
await within(CLOSE_S, `${browserName}: closing it`, () => browser.close()).catch((e) => console.error(e.stack));
process.exit(0);
