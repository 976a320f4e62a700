// The demo page of a decoder with its tokenizer: it writes on from a text, token by token.
import { $, attempt, labelled, made, milliseconds, onWhat, say, show } from "./demo_common.js";

const FRAME = 12; // milliseconds of writing between two looks at the page, where the model runs in the page
const MOST = 2 ** 32 - 1; // of the seeds that are drawn

const number = (id, attributes) => made("input", { id, type: "number", required: true, inputMode: "numeric", ...attributes });

/** The settings of a text, each a labelled field, and what they say in a line. */
function settings(context, answers) {
  const usual = answers ? context : Math.min(200, Math.max(1, context >> 1));
  const tokens = number("tokens", { min: 1, max: context, value: usual });
  const temperature = made("input", { id: "temperature", type: "range", min: 0, max: 2, step: 0.05, value: answers ? 0 : 0.8 });
  const topK = number("top-k", { min: 0, max: 1e6, value: 40 });
  const topP = made("input", { id: "top-p", type: "range", min: 0.05, max: 1, step: 0.05, value: 0.95 });
  const seed = number("seed", { min: 0, max: Number.MAX_SAFE_INTEGER, value: 0 });
  const another = made("button", { type: "button", textContent: "Another seed" });
  another.onclick = () => {
    seed.value = Math.floor(Math.random() * MOST);
    changed();
  };
  const out = (input) => made("output", { htmlFor: input.id });
  const [warmth, share] = [out(temperature), out(topP)];
  const line = made("summary", {});
  const changed = () => {
    warmth.textContent = temperature.value === "0" ? "0: the likeliest token" : Number(temperature.value).toFixed(2);
    share.textContent = Number(topP.value).toFixed(2);
    const how = temperature.value === "0" ? "the likeliest" : `temperature ${warmth.textContent}, seed ${seed.value}`;
    line.textContent = `Up to ${tokens.value} token${tokens.value === "1" ? "" : "s"}, ${how}`;
  };
  const box = made("details", { oninput: changed });
  const seeds = labelled("Seed", seed);
  seeds.append(another);
  seeds.classList.add("with-button");
  box.append(
    line,
    labelled("Maximum tokens", tokens),
    labelled("Temperature", temperature, warmth),
    labelled("Top-k (0: all tokens)", topK),
    labelled("Top-p", topP, share),
    seeds,
  );
  box.addEventListener("invalid", () => (box.open = true), true); // what is hidden cannot be corrected
  changed();
  const read = () => ({
    maxTokens: Number(tokens.value),
    temperature: Number(temperature.value),
    topK: Number(topK.value),
    topP: Number(topP.value),
    seed: BigInt(seed.value),
  });
  return { box, read };
}

function timingText({ prompt, read, tokens, write }) {
  const perSecond = (1e3 * (tokens - 1)) / write;
  const rate = tokens > 1 && write ? `, ${perSecond.toFixed(perSecond < 100 ? 1 : 0)} tokens per second${onWhat()}` : "";
  const count = (n) => `${n} token${n === 1 ? "" : "s"}`;
  return `${count(tokens)}${rate}; prompt of ${count(prompt)} read in ${milliseconds(read)}`;
}

/** Shows a TextWriter, or one in a worker. */
export function write(writer, manifest) {
  const { context, encoder } = manifest.decoder;
  const prompt = made("textarea", { id: "prompt", rows: 4, value: encoder ? "The house is old." : "Once upon a time" });
  const room = encoder
    ? `The model reads up to ${encoder.most} tokens, and answers with up to ${context}.`
    : `Prompt and answer together have up to ${context} tokens.`;
  const hint = made("p", { id: "room", textContent: room });
  prompt.setAttribute("aria-describedby", hint.id);
  const { box, read } = settings(context, Boolean(encoder));
  const button = made("button", { id: "go", type: "submit", textContent: "Write" });
  const form = made("form", { className: "card" });
  form.setAttribute("aria-label", "Text");
  const row = made("p", { className: "row" });
  row.append(button);
  form.append(labelled(encoder ? "Text to answer" : "Text to continue", prompt), hint, row, box);
  $("work").prepend(form);

  let running = null;
  const working = (on) => {
    button.textContent = on ? "Stop" : "Write";
    $("text").setAttribute("aria-busy", String(on));
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    if (running) running.abort();
    else start();
  };
  form.onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    else if (event.key === "Escape") running?.abort();
    else return;
    event.preventDefault();
  };

  const start = attempt(async () => {
    const control = (running = new AbortController());
    const tail = document.createTextNode("");
    working(true);
    say("Reading the text …");
    let [waiting, shown] = ["", performance.now()];
    const present = () => {
      const view = $("text");
      const atEnd = view.scrollTop + view.clientHeight >= view.scrollHeight - 4;
      tail.appendData(waiting);
      waiting = "";
      if (atEnd) view.scrollTop = view.scrollHeight;
      if (writer.timing) $("timing").textContent = timingText(writer.timing);
      shown = performance.now();
    };
    $("text").replaceChildren(...(encoder ? [] : [made("b", { textContent: prompt.value })]), tail);
    $("timing").textContent = "";
    show("text");
    try {
      for await (const piece of writer.write(prompt.value, { ...read(), signal: control.signal })) {
        if (!tail.length && !waiting) say("Writing …");
        waiting += piece;
        if (performance.now() - shown < FRAME) continue;
        present();
        await new Promise((done) => setTimeout(done));
      }
      say(writer.timing.tokens < read().maxTokens ? "The text is at its end." : "Done.");
    } catch (e) {
      if (!control.signal.aborted) throw e;
      say("Stopped.");
    } finally {
      present();
      running = null;
      working(false);
    }
  });
}
