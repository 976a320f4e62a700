// node run.mjs SCRIPT FOLDER ARGUMENT ...: runs a Python script in Pyodide, which sees FOLDER under the same path.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { loadPyodide } = createRequire(`${process.cwd()}/`)("pyodide");
const [script, ...args] = process.argv.slice(2);
const pyodide = await loadPyodide();
pyodide.mountNodeFS(args[0], args[0]);
pyodide.globals.set("arguments", pyodide.toPy([script, ...args]));
pyodide.runPython("import sys; sys.argv = list(arguments)");
pyodide.runPython(readFileSync(script, "utf8"));
