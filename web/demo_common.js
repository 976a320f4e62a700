// What the parts of the demo page share.

export const $ = (id) => document.getElementById(id);
export const show = (id, on = true) => ($(id).hidden = !on);
export const made = (tag, attributes) => Object.assign(document.createElement(tag), attributes);
export const milliseconds = (t) => `${t < 10 ? t.toFixed(2) : t.toFixed(1)} ms`;

/** What computes: a Predictor, or a model in a worker. */
let runner = { threads: 1 };
export const setRunner = (model) => (runner = model);

/** What is said of the network's time behind it. */
export function onWhat() {
  if (runner.backend === "webgpu") return " on WebGPU";
  return runner.threads > 1 ? ` on ${runner.threads} threads` : "";
}

export function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

/** Runs something of the user's and shows its error. */
export function attempt(action) {
  return async (...args) => {
    try {
      await action(...args);
    } catch (e) {
      say(e.message, true);
    }
  };
}

/** Runs an action one call at a time; of the calls that come meanwhile only the last is made, when it is done. */
export function lastOnly(action) {
  let [waiting, running] = [null, false];
  return async (...args) => {
    waiting = args;
    if (running) return;
    running = true;
    try {
      while (waiting) {
        const now = waiting;
        waiting = null;
        await action(...now);
      }
    } finally {
      running = false;
    }
  };
}

/** A field and what it is called; `more` stands beside the name. */
export function labelled(name, field, ...more) {
  const line = made("p", { className: "field" });
  line.append(made("label", { htmlFor: field.id, textContent: name }), ...more, field);
  return line;
}

/** Names with their shares as bars, and in percent, or with a text of their own. */
export function showBars(rows) {
  $("classes").replaceChildren(
    ...rows.map(({ label, share, hue, text }) => {
      const row = made("li");
      const part = (className, textContent) => made("span", { className, textContent });
      const bar = part("bar", "");
      bar.setAttribute("aria-hidden", "true");
      bar.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
      row.append(bar, part("label", label), part("part", text ?? `${(100 * share).toFixed(1)} %`));
      if (hue !== undefined) {
        row.classList.add("hued");
        row.style.setProperty("--hue", hue);
      }
      return row;
    }),
  );
}

export function showClasses(classes) {
  showBars(classes.map(({ label, probability }) => ({ label: label.replace(/^n\d{8} /, ""), share: probability })));
}

export function showTiming({ preprocess: before, run }) {
  $("timing").textContent = `${milliseconds(run)} for the network${onWhat()}, ${milliseconds(before)} for preparing the picture`;
}
