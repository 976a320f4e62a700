// node driver.mjs NODE_MODULES CHROMIUM: a headless Chromium behind JSON lines, for bench/web/browser.py.
//   {"do": "open", "id", "url"}                a page in a context of its own, and so in a process and a cache of its own
//   {"do": "call", "id", "name", "arguments"}  an asynchronous function of globalThis.bench in that page
//   {"do": "close", "id"}
//   {"do": "visit", "url", "network"}          what the promise globalThis.first of a page gives; its context is new, and
//                                              so is its cache. network: null, or as Network.emulateNetworkConditions
//   {"do": "processTime", "id"}                seconds of CPU time of the page's process, in ticks of 10 ms
//   {"do": "renderers"}                        the ids of all processes that show pages
//   {"do": "quit"}
// Each line is answered by one: {"value"} or {"error"}. The first line that is written states the browser's version.
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [modules, executablePath] = process.argv.slice(2);
const puppeteer = createRequire(join(modules, "/"))("puppeteer-core");
const browser = await puppeteer.launch({
  executablePath,
  headless: true,
  pipe: true, // Chromium ends with this process, however that ends
  protocolTimeout: 240_000, // milliseconds for one call into a page
  // A renderer in reserve would start while others are timed.
  args: ["--disable-features=SpareRendererForSitePerProcess", ...(process.getuid?.() === 0 ? ["--no-sandbox"] : [])],
});
const session = await browser.target().createCDPSession();
const pages = new Map();

const commands = {
  async open({ id, url }) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    const crashed = new Promise((_, fail) => page.on("error", () => fail(new Error("the page crashed"))));
    crashed.catch(() => {});
    pages.set(id, { context, page, crashed });
    await page.goto(url);
    await page.waitForFunction("globalThis.bench");
  },

  async call({ id, name, arguments: given }) {
    const { page, crashed } = pages.get(id);
    return Promise.race([page.evaluate((name, given) => globalThis.bench[name](...given), name, given), crashed]);
  },

  async close({ id }) {
    const { context } = pages.get(id);
    pages.delete(id);
    await context.close();
  },

  async visit({ url, network }) {
    const context = await browser.createBrowserContext();
    try {
      const page = await context.newPage();
      const failed = new Promise((_, fail) => {
        for (const kind of ["error", "pageerror"]) page.on(kind, fail);
      });
      failed.catch(() => {});
      const devtools = await page.createCDPSession();
      await devtools.send("Network.enable");
      if (network) await devtools.send("Network.emulateNetworkConditions", { offline: false, ...network });
      await page.goto(url, { waitUntil: "domcontentloaded" });
      const seen = page.waitForFunction("'first' in globalThis").then(() => page.evaluate("globalThis.first"));
      seen.catch(() => {});
      return await Promise.race([seen, failed]);
    } finally {
      await context.close();
    }
  },

  async processTime({ id }) {
    const devtools = await pages.get(id).page.createCDPSession();
    await devtools.send("Performance.enable");
    const { metrics } = await devtools.send("Performance.getMetrics");
    await devtools.detach();
    return metrics.find((m) => m.name === "ProcessTime").value;
  },

  async renderers() {
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    return processInfo.filter((p) => p.type === "renderer").map((p) => p.id);
  },

  quit: () => browser.close(),
};

const tell = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
tell({ value: await browser.version() });
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  try {
    tell({ value: (await commands[command.do](command)) ?? null });
  } catch (e) {
    tell({ error: String(e.message ?? e).split("\n")[0] });
  }
}
