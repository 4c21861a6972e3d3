(() => {
  "use strict";
  const root = document.documentElement;
  const { task, bits, to, place } = document.querySelector("main").dataset;
  const show = (state) => { root.className = state; };
  // Whoever comes back by the browser's own button would see a page that is over.
  addEventListener("pageshow", (event) => event.persisted && location.reload());

  // SHA-256 (FIPS 180-4) of `task:number`, of which all but the last block is hashed once. Runs in a worker, so it stands on its own.
  function searcher(task, bits) {
    const k = [], start = [];
    for (let n = 2; k.length < 64; n++) {
      let prime = true;
      for (let d = 2; d * d <= n; d++) if (n % d === 0) prime = false;
      if (!prime) continue;
      if (start.length < 8) start.push((Math.sqrt(n) % 1) * 4294967296 | 0);
      k.push((Math.cbrt(n) % 1) * 4294967296 | 0);
    }
    const w = new Int32Array(64);
    function block(state, bytes, at) {
      for (let i = 0; i < 16; i++, at += 4) w[i] = bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
      for (let i = 16; i < 64; i++) {
        const x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + ((x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3)
          + ((y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10);
      }
      let [a, b, c, d, e, f, g, h] = state;
      for (let i = 0; i < 64; i++) {
        const t = h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7)) + (e & f ^ ~e & g) + k[i] + w[i] | 0;
        const u = ((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) + (a & b ^ a & c ^ b & c) | 0;
        h = g; g = f; f = e; e = d + t | 0; d = c; c = b; b = a; a = t + u | 0;
      }
      return [state[0] + a | 0, state[1] + b | 0, state[2] + c | 0, state[3] + d | 0,
        state[4] + e | 0, state[5] + f | 0, state[6] + g | 0, state[7] + h | 0];
    }
    const prefix = Array.from(task + ":", (letter) => letter.charCodeAt(0));
    const whole = prefix.length - prefix.length % 64;
    let before = start;
    for (let at = 0; at < whole; at += 64) before = block(before, prefix, at);
    const rest = prefix.slice(whole), last = new Uint8Array(64);
    let number = 0;
    // Tries so many numbers. A task is short enough for what is left of it and any number to fit into one block.
    return (tries) => {
      for (const end = number + tries; number < end; number++) {
        const text = String(number);
        last.fill(0);
        last.set(rest);
        for (let i = 0; i < text.length; i++) last[rest.length + i] = text.charCodeAt(i);
        last[rest.length + text.length] = 128;
        const length = (prefix.length + text.length) * 8;
        last[62] = length >> 8;
        last[63] = length;
        if (block(before, last, 0)[0] >>> 32 - bits === 0) return text;
      }
      return null;
    };
  }

  let done = false;
  function solved(answer) {
    if (done) return;
    done = true;
    location.replace(place + "?" + new URLSearchParams({ task, answer, to }) + location.hash);
  }
  function here() {
    const search = searcher(task, Number(bits));
    (function turn() {
      const answer = search(2000);
      if (answer === null) setTimeout(turn); else solved(answer);
    })();
  }

  // A browser that keeps no cookies would be sent round and round.
  let rounds = 0;
  try {
    const kept = JSON.parse(sessionStorage.getItem("phalanx") || "[]").filter((at) => at > Date.now() - 60000);
    rounds = kept.push(Date.now());
    sessionStorage.setItem("phalanx", JSON.stringify(kept));
  } catch { /* No storage: cookies are what counts. */ }
  if (!navigator.cookieEnabled || rounds > 6) return show("stuck");

  show("works");
  try {
    const source = `onmessage = ({ data: [task, bits] }) => {
      const search = (${searcher})(task, bits);
      let answer = null;
      while (answer === null) answer = search(100000);
      postMessage(answer);
    };`;
    const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => solved(data);
    worker.onerror = here;
    worker.postMessage([task, Number(bits)]);
  } catch {
    here();
  }
})();
