// The demo page of a model that embeds texts: how similar texts are to one.
import { $, attempt, labelled, lastOnly, made, milliseconds, onWhat, say, showBars } from "./demo_common.js";

const EXAMPLES = ["A cat sits on the mat.", "There is a kitten on the rug.", "The bank raised its interest rates."];

/** The cosine of the angle between two embeddings; 0 where one of them is nothing. */
function cosine(a, b) {
  let [product, first, second] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    first += a[i] * a[i];
    second += b[i] * b[i];
  }
  return product / (Math.sqrt(first * second) || 1);
}

/** Shows a TextModel, or one in a worker. */
export function similar(model, manifest) {
  const { tokens, size } = manifest.embedding;
  const one = made("textarea", { id: "one", rows: 2, value: EXAMPLES[0] });
  const others = made("textarea", { id: "others", rows: 4, value: EXAMPLES.slice(1).join("\n") });
  const cut = made("input", { id: "cut", type: "checkbox" });
  const check = made("label", { className: "check", textContent: "Cut texts that are too long" });
  check.prepend(cut);
  const form = made("form", { className: "card" });
  form.setAttribute("aria-label", "Texts");
  const row = made("p", { className: "row" });
  row.append(made("button", { id: "compare", type: "submit", textContent: "Compare" }));
  form.append(
    labelled("Text", one),
    labelled("Compare with (a text in each line)", others),
    made("p", { textContent: `A text becomes ${size} numbers; it has up to ${tokens} tokens.` }),
    check,
    row,
  );
  $("work").prepend(form);
  $("classes").setAttribute("aria-label", "cosine similarity, most similar first");

  const run = attempt(
    lastOnly(async () => {
      const texts = [one.value, ...others.value.split("\n").filter((line) => line.trim())];
      if (!texts[0].trim() || texts.length < 2) throw new Error("type a text, and at least one to compare it with");
      const began = performance.now();
      const found = [];
      for (const text of texts) found.push(await model.embed(text, { cut: cut.checked }));
      const each = (performance.now() - began) / texts.length;
      const rows = texts.slice(1).map((label, k) => ({ label, share: cosine(found[0], found[k + 1]) }));
      showBars(rows.map((bar) => ({ ...bar, text: bar.share.toFixed(3) })).sort((a, b) => b.share - a.share));
      $("timing").textContent = `Cosine similarity, from -1 to 1; ${milliseconds(each)} for each text${onWhat()}`;
      say("");
    }),
  );
  form.onsubmit = (event) => {
    event.preventDefault();
    run();
  };
  form.onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  };
}
