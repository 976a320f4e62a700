// node page.mjs BROWSER ADDRESS: opens a page in headless Chromium, prints what its global promise `result` gives as JSON.
// playwright-core comes from NODE_PATH or a node_modules above this file.
import { createRequire } from "node:module";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const [executablePath, address] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  page.on("pageerror", (e) => console.error(e.stack));
  page.on("console", (message) => console.error(message.text()));
  await page.goto(address);
  await page.waitForFunction(() => window.result);
  console.log(JSON.stringify(await page.evaluate(() => window.result)));
} finally {
  await browser.close();
}
