import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// `npm run dev` serves the console with hot reload and passes the API on to a node, or to the mock.
const node = process.env['PHALANX_ADMIN'] ?? 'http://127.0.0.1:8901';

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2022',
    // Everything is a file of its own: the node's Content-Security-Policy allows neither inline code nor data: URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 250,
  },
  server: {
    host: '127.0.0.1',
    proxy: { '/api': { target: node, changeOrigin: false }, '/login': { target: node, changeOrigin: false } },
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node', css: true },
});
