// node page.mjs BROWSER ADDRESS [FLAG ...]: opens a page in headless Chromium, prints what its global promise `result` gives as JSON.
// playwright-core comes from NODE_PATH or a node_modules above this file. On standard error: what is done, and what the
// page tells.
import { createRequire } from "node:module";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const [executablePath, address, ...flags] = process.argv.slice(2);
const step = (text) => console.error(`chromium: ${text}`);
process.on("SIGTERM", () => process.exit(143)); // and playwright ends the browser with this process
step("starting");
const options = { executablePath, args: ["--no-sandbox", ...flags], timeout: 60000, handleSIGTERM: false };
const browser = await chromium.launch(options);
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(170000);
  page.on("pageerror", (e) => console.error(e.stack));
  page.on("console", (message) => console.error(message.text()));
  step(`loading ${address}`);
  await page.goto(address);
  step("waiting for the page's result");
  await page.waitForFunction(() => window.result);
  console.log(JSON.stringify(await page.evaluate(() => window.result)));
} finally {
  step("closing");
  await browser.close();
}
