// The demo page of a model of speech: it writes what is said, into the microphone or in a file of sound.
import { $, attempt, labelled, made, onWhat, say, show } from "./demo_common.js";

const FILES = "audio/*,video/*,.wav,.mp3,.m4a,.ogg,.opus,.flac,.webm";
const LEVELS = 50; // milliseconds between two looks at how loud it is

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

/** Why there is no microphone to ask for; "" where there may be one. */
function noMicrophone() {
  if (!globalThis.isSecureContext) return "A page records only over https or on localhost. Files work here, too.";
  if (navigator.mediaDevices?.getUserMedia && globalThis.MediaRecorder) return "";
  return "This browser does not record sound. Files work here, too.";
}

const REFUSED = {
  NotAllowedError: "The page may not use the microphone: allow it beside the address, or choose a file.",
  NotFoundError: "No microphone was found: plug one in, or choose a file.",
  NotReadableError: "The microphone is used by something else: free it, or choose a file.",
};

/** What a file or a recording sounds like: samples of one channel, `rate` of them per second. */
async function samplesOf(blob, rate) {
  const context = new OfflineAudioContext(1, 1, rate); // which decodes to its own rate
  const sound = await context.decodeAudioData(await blob.arrayBuffer()).catch(() => {
    throw new Error("this is no sound that the browser can read: try a .wav, .mp3 or .m4a file");
  });
  const samples = new Float32Array(sound.length);
  for (let c = 0; c < sound.numberOfChannels; c++) {
    const channel = sound.getChannelData(c);
    for (let k = 0; k < samples.length; k++) samples[k] += channel[k] / sound.numberOfChannels;
  }
  if (!samples.length) throw new Error("there is no sound in it");
  return samples;
}

/** Records until `stop` is called; `onLevel` is told how loud it is, from 0 to 1, and the seconds so far. */
async function record(onLevel) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true }).catch((e) => {
    throw new Error(REFUSED[e.name] ?? `The microphone does not work: ${e.message}`);
  });
  const context = new AudioContext();
  const ear = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(ear);
  const wave = new Float32Array(ear.fftSize);
  const began = performance.now();
  const watch = setInterval(() => {
    ear.getFloatTimeDomainData(wave);
    const power = wave.reduce((sum, x) => sum + x * x, 0) / wave.length;
    onLevel(Math.min(1, Math.max(0, 1 + Math.log10(power + 1e-9) / 5)), (performance.now() - began) / 1e3);
  }, LEVELS);
  const recorder = new MediaRecorder(stream);
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const done = new Promise((resolve, reject) => {
    recorder.onstop = () => resolve(new Blob(parts, { type: recorder.mimeType }));
    recorder.onerror = ({ error }) => reject(error);
  }).finally(() => {
    clearInterval(watch);
    for (const track of stream.getTracks()) track.stop();
    context.close();
  });
  recorder.start();
  return { done, stop: () => recorder.state !== "inactive" && recorder.stop() };
}

/** The language that is spoken, and whether to translate, as far as the model knows any. */
function settings({ languages, translate }) {
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  const known = Object.keys(languages).map((code) => [names.of(code) ?? code, code]);
  const language = made("select", { id: "language" });
  language.append(made("option", { value: "", textContent: "Find out" }));
  for (const [textContent, value] of known.sort()) language.append(made("option", { value, textContent }));
  const check = made("input", { id: "translate", type: "checkbox" });
  const line = made("label", { className: "check", textContent: "Translate into English" });
  line.prepend(check);
  const fields = [...(known.length ? [labelled("Language", language)] : []), ...(translate === undefined ? [] : [line])];
  return { fields, read: () => ({ language: language.value || undefined, translate: check.checked }) };
}

/** Shows a Transcriber, or one in a worker. */
export function hear(model, manifest) {
  const { rate } = manifest.sound;
  const missing = noMicrophone();
  const button = made("button", { id: "record", type: "button", textContent: "Record", disabled: missing !== "" });
  const pick = made("button", { id: "pick-sound", type: "button", textContent: "Choose a file" });
  const stop = made("button", { id: "stop", type: "button", textContent: "Stop", hidden: true });
  const file = made("input", { type: "file", accept: FILES, id: "sound", hidden: true, tabIndex: -1 });
  const hint = made("p", { id: "room", textContent: missing || "Or drop a file of sound here." });
  const level = made("meter", { id: "level", min: 0, max: 1, hidden: true });
  level.setAttribute("aria-label", "loudness");
  const bar = made("progress", { id: "heard", max: 1, value: 0, hidden: true });
  bar.setAttribute("aria-label", "sound heard");
  button.setAttribute("aria-describedby", hint.id);
  const { fields, read } = settings(manifest.speech);
  const form = made("section", {});
  form.setAttribute("aria-label", "Sound");
  const row = made("p", { className: "row" });
  row.append(button, pick, stop, file);
  form.append(row, hint, level, bar, ...fields);
  $("work").prepend(form);
  let [recording, running] = [null, null];

  const present = () => {
    button.textContent = recording ? "Stop recording" : "Record";
    button.setAttribute("aria-pressed", String(recording !== null));
    button.disabled = missing !== "" || running !== null;
    pick.disabled = recording !== null || running !== null;
    level.hidden = !recording;
    stop.hidden = bar.hidden = !running;
    $("text").setAttribute("aria-busy", String(running !== null));
  };

  const write = async (blob) => {
    const control = (running = new AbortController());
    const text = $("text");
    text.replaceChildren();
    $("timing").textContent = "";
    bar.value = 0;
    show("text");
    present();
    try {
      say("Reading the sound …");
      const samples = await samplesOf(blob, rate);
      const [seconds, began] = [samples.length / rate, performance.now()];
      say(`Listening to ${clock(seconds)} …`);
      const tell = (heard) => {
        bar.value = heard / seconds;
        const speed = (1e3 * heard) / (performance.now() - began);
        $("timing").textContent =
          `${clock(heard)} of ${clock(seconds)} heard, ${speed.toFixed(1)} times as fast as it is said${onWhat()}`;
      };
      for await (const part of model.hear(samples, { ...read(), rate, signal: control.signal })) {
        const line = made("span", { className: "said", textContent: part.text });
        if (part.end !== undefined) line.prepend(made("time", { textContent: clock(part.start) }), " ");
        text.append(line);
        text.scrollTop = text.scrollHeight;
        if (part.end !== undefined) tell(Math.min(part.end, seconds));
      }
      tell(seconds);
      say(text.textContent.trim() ? "Done." : "Nothing was said.");
    } catch (e) {
      if (!control.signal.aborted) throw e;
      say("Stopped.");
    } finally {
      running = null;
      present();
    }
  };

  button.onclick = attempt(async () => {
    if (recording) return recording.stop();
    say("Asking for the microphone …");
    button.disabled = true;
    recording = await record((loud, seconds) => {
      level.value = loud;
      say(`Recording, ${clock(seconds)}`);
    }).finally(() => (button.disabled = false));
    present();
    const blob = await recording.done.finally(() => (recording = null));
    await write(blob);
  });
  stop.onclick = () => running?.abort();
  pick.onclick = () => file.click();
  const take = attempt(async (chosen) => {
    if (chosen && !recording && !running) await write(chosen);
  });
  file.onchange = () => {
    take(file.files[0]);
    file.value = "";
  };
  document.body.addEventListener("dragover", (event) => event.preventDefault());
  document.body.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
  addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
}
