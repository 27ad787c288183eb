// The page of a batch, or of a bulk action: asks every two seconds how far it is. What it shows is rendered by the server (live.html).
"use strict";

(() => {
  const live = document.getElementById("batch-live");
  if (!live || !live.dataset.state) return;

  const looks = [];

  /** Per second and remaining time, from the first and the last of the latest looks. */
  function showPace() {
    const pace = document.getElementById("batch-pace");
    if (!pace) return;
    const [done, total] = [Number(pace.dataset.done), Number(pace.dataset.total)];
    looks.push({ at: performance.now() / 1000, done });
    if (looks.length > 8) looks.shift();
    const [first, last] = [looks[0], looks[looks.length - 1]];
    if (last.at - first.at < 1 || last.done <= first.done) return;
    const perSecond = (last.done - first.done) / (last.at - first.at);
    pace.textContent = `, ${inWords(perSecond)} a second, ${remaining((total - done) / perSecond)}`;
  }

  function inWords(number) {
    return number.toLocaleString("en", { maximumFractionDigits: number < 10 ? 1 : 0 });
  }

  function remaining(seconds) {
    if (seconds < 1) return "almost done";
    if (seconds < 90) return `about ${Math.ceil(seconds)} s left`;
    if (seconds < 5400) return `about ${Math.round(seconds / 60)} min left`;
    return `about ${inWords(seconds / 3600)} h left`;
  }

  async function look() {
    const began = performance.now();
    let wait = 2000;
    try {
      // 304 by the ETag: the browser then hands out what it has.
      const response = await fetch(live.dataset.state, { headers: { Accept: "application/json" } });
      if (response.redirected || response.status === 403) return location.reload();
      if (response.ok) {
        const state = await response.json();
        if (state.status !== live.dataset.status || state.finished) return location.reload();
        live.innerHTML = state.html;
        showPace();
      }
    } catch {
      wait = 10000; // The service or the network is away: the page stays as it was.
    }
    // A count of millions of rows takes its time: never a second look before a multiple of that.
    setTimeout(look, Math.max(wait, 5 * (performance.now() - began)));
  }

  showPace();
  setTimeout(look, 2000);
})();
