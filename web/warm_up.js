// While the weights are on their way, a worker runs the model without them. What browsers compile at first is slow code;
// they replace that of functions that work much, for all who have the module, so the first run has fast code then.

/** Starts such a worker, which the caller terminates. */
export function warmUp(module, manifest, build) {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  worker.onerror = (e) => e.preventDefault(); // the model runs without it
  worker.postMessage({ method: "warmUp", args: [module, manifest, build] });
  return worker;
}
