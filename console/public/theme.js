// Runs before the first paint, so that a chosen theme does not flash the other one. A file of its own because the
// Content-Security-Policy allows no inline code.
try {
  var chosen = localStorage.getItem('phalanx-theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch (_) {
  // Storage is refused: the system's preference holds.
}
