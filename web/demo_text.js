// The demo page's writing: a character model continues what was typed.
import { $, attempt, milliseconds, onWhat, say, show } from "./demo_common.js";

const FRAME = 12; // milliseconds of writing between two looks at the page

/** Shows a Writer. */
export function text(writer, manifest) {
  show("writing");
  $("seed").value = manifest.task.seed || writer.labels[0];
  const showWarmth = () => ($("warmth").textContent = Number($("temperature").value).toFixed(2));
  $("temperature").oninput = showWarmth;
  showWarmth();
  let running = null;
  const working = (on) => {
    $("write").textContent = on ? "Stop" : "Write";
    $("text").setAttribute("aria-busy", String(on));
  };

  $("writing").onsubmit = (event) => {
    event.preventDefault();
    if (running) running.abort();
    else write();
  };
  const write = attempt(async () => {
    const seed = $("seed").value.replace(/\r\n?/g, "\n");
    const control = (running = new AbortController());
    working(true);
    say("");
    const [head, tail] = [Object.assign(document.createElement("b"), { textContent: seed }), document.createTextNode("")];
    $("text").replaceChildren(head, tail);
    show("text");
    let [count, spent, waiting] = [0, 0, ""];
    let began = performance.now();
    const pause = async () => {
      spent += performance.now() - began;
      const view = $("text");
      const atEnd = view.scrollTop + view.clientHeight >= view.scrollHeight - 4;
      tail.appendData(waiting);
      waiting = "";
      if (atEnd) view.scrollTop = view.scrollHeight;
      $("timing").textContent = `${count} characters, ${milliseconds(spent / Math.max(1, count))} each${onWhat()}`;
      await new Promise((done) => setTimeout(done, 0));
      began = performance.now();
    };
    try {
      const options = { length: Number($("length").value), temperature: Number($("temperature").value), signal: control.signal };
      for await (const character of writer.write(seed, options)) {
        waiting += character;
        count++;
        if (performance.now() - began > FRAME) await pause();
      }
    } catch (e) {
      if (!control.signal.aborted) throw e;
    } finally {
      await pause();
      running = null;
      working(false);
    }
  });
}
