// The page that asks for a bulk action: how long it takes, at the rate that is typed and for the rows that are ticked.
"use strict";

(() => {
  const takes = document.getElementById("takes");
  const rate = document.getElementById("id_rate");
  const arrived = document.getElementById("id_include_arrived");
  if (!takes || !rate) return;

  function inWords(seconds) {
    if (seconds < 90) return `${Math.ceil(seconds)} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return `${(seconds / 3600).toLocaleString("en", { maximumFractionDigits: 1 })} h`;
  }

  function show() {
    const more = arrived && arrived.checked ? Number(takes.dataset.arrived) : 0;
    const seconds = (Number(takes.dataset.count) + more) / Number(rate.value);
    if (Number.isFinite(seconds)) takes.textContent = inWords(seconds);
  }

  rate.addEventListener("input", show);
  if (arrived) arrived.addEventListener("change", show);
})();
