// A thread of a predictor: it runs the same module over the same memory on a stack of its own, until it is terminated.
const NODE = "node:worker_threads"; // named here, so that bundlers for pages do not look for it
const port = globalThis.postMessage ? globalThis : (await import(/* webpackIgnore: true */ /* @vite-ignore */ NODE)).parentPort;
let exports;

// First {module, memory, stack}, answered with {error: its text or null}; then {name, handle, number}, a call that does
// not return while the predictor lives.
async function receive({ module, memory, stack, name, handle, number }) {
  if (name) return exports[`${name}_work`](handle, number);
  try {
    ({ exports } = await WebAssembly.instantiate(module, { env: { memory } }));
    exports.__stack_pointer.value = stack;
    port.postMessage({ error: null });
  } catch (e) {
    port.postMessage({ error: e.message });
  }
}

const refuse = () => port.postMessage({ error: "it gets no shared memory" });
if (port.on) port.on("message", receive).on("messageerror", refuse);
else [port.onmessage, port.onmessageerror] = [({ data }) => receive(data), refuse];

export {}; // so that every tool sees a module
