// ESLint for the page, the scripts that node runs and the tests' pages; script/lint installs it in build/node.
import { createRequire } from "node:module";

const installed = createRequire(new URL("build/node/package.json", import.meta.url));
const js = installed("@eslint/js");
const globals = installed("globals");

export default [
  { ignores: [".venv/", ".typecheck/", "build/", "dist/", "src/dlpack/bindings/", "src/dlpack/starters/"] }, // templates
  js.configs.recommended,
  {
    files: ["**/*.js", "**/*.mjs"],
    languageOptions: { ecmaVersion: 2024, sourceType: "module", globals: { ...globals.browser, ...globals.worker } },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-empty": ["error", { allowEmptyCatch: true }],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-var": "error",
      "prefer-const": ["error", { destructuring: "all" }],
    },
  },
  { files: ["**/*.mjs", "web/node.js"], languageOptions: { globals: globals.node } },
  { files: ["tests/browser.mjs"], languageOptions: { globals: { streams: "readonly" } } }, // of the page under test
];
