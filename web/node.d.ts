export * from "./index.js";
import type { Parts } from "./index.js";

/** The parts of the bundle in a folder (a path or a file: URL), as `load` takes them; `load` takes the folder, too. */
export function openBundle(folder: string | URL): Promise<Parts>;
