import { defineConfig } from "vite";

// What makes a page cross-origin isolated, which threads need. A server that the page is put on has to send them too.
const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export default defineConfig({
  base: "./",
  build: { target: "es2022" },
  worker: { format: "es" },
  optimizeDeps: { exclude: ["@package@"] },
  server: { headers },
  preview: { headers },
});
