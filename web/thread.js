// A thread of a predictor: it runs the same module over the same memory on a stack of its own, until it is terminated.
const port = globalThis.postMessage ? globalThis : (await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:worker_threads")).parentPort;
let exports;

// First {module, memory, stack}, answered with "ready"; then {name, handle, number}: the call does not return while the predictor lives.
async function receive({ module, memory, stack, name, handle, number }) {
  if (name) return exports[`${name}_work`](handle, number);
  ({ exports } = await WebAssembly.instantiate(module, { env: { memory } }));
  exports.__stack_pointer.value = stack;
  port.postMessage("ready");
}

if (port.on) port.on("message", receive);
else port.onmessage = ({ data }) => receive(data);
