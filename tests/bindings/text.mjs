import { Predictor } from "writer";

const [prompt] = process.argv.slice(2);
const predictor = new Predictor();
const told = (text) => [new TextEncoder().encode(text)].map((utf8) => `${utf8.length} ${utf8.reduce((a, b) => a + b)}`)[0];
const drawn = (maxTokens) => ({ maxTokens, temperature: 1.2, topK: 50, topP: 0.95, seed: 7 });

function refused(name, call) {
  try {
    call();
    console.log(`${name}: no error`);
  } catch (e) {
    console.log(`${name}: ${e.message}`);
    return e;
  }
}

const ids = predictor.tokenize(prompt);
console.log("ids", ...ids);
console.log("back", predictor.detokenize(ids));
console.log("plain", predictor.tokenize(prompt, { special: false }).length);
console.log("tokens", ...predictor.generate(ids, drawn(6)));
let pieces = 0;
const text = predictor.write(prompt, { ...drawn(20), onText: () => void ++pieces });
console.log("text", told(text), pieces);
console.log("first", told(predictor.write(prompt, { ...drawn(20), onText: () => true })));
predictor.write(prompt, drawn(5));
console.log("kept", told(predictor.write("and", { maxTokens: 4, keep: true })));
console.log("written", told(refused("full", () => predictor.write(prompt, { maxTokens: 99, stop: [] })).text));
console.log("made", refused("full", () => predictor.generate(ids, { maxTokens: 99 })).tokens.length);
console.log("broken", predictor.tokenize(new Uint8Array([0x61, 0xff])).join() === predictor.tokenize("a\ufffd").join());
refused("long", () => predictor.tokenize("a".repeat(40000)));
refused("empty", () => predictor.generate([]));
refused("token", () => predictor.generate([9999]));
refused("sampler", () => predictor.write(prompt, { temperature: 1, topP: 2 }));
refused("callback", () =>
  predictor.write(prompt, {
    onText: () => {
      throw new Error("of its own");
    },
  }),
);
refused("type", () => predictor.tokenize(5));
refused("nested", () => predictor.write(prompt, { onText: () => predictor.close() || predictor.tokenize("a") }));
predictor.close();
refused("closed", () => predictor.tokenize(prompt));
