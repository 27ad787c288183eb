// A page that shows a secret once. A reload would send its form again: let it lead elsewhere instead.
"use strict";

(() => {
  const shown = document.querySelector("[data-shown-once]");
  if (!shown) return;
  history.replaceState(null, "", shown.dataset.shownOnce);

  const secret = shown.querySelector("input[readonly]");
  if (!secret) return;
  secret.addEventListener("focus", () => secret.select());
  const button = shown.querySelector("button[data-copy]");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(secret.value);
    button.querySelector("[data-copied]").textContent = button.dataset.copy;
  });
})();
