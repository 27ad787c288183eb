// The first page: asks every ten seconds how it is, while somebody looks. What it shows is rendered by the server
// (templates/admin/overview); of its parts only those that have changed are put in the place of the old ones.
"use strict";

(() => {
  const page = document.getElementById("overview");
  const age = document.getElementById("overview-age");
  if (!page) return;

  const EVERY = 10000;
  // The charts are counted anew each minute, so they are not asked for more often.
  const LOOKS_PER_ALL = 6;
  let looks = 0;
  let timer = 0;
  let heardAt = performance.now();

  /** How to find again, in the new part, what had the focus in the old one. */
  function sameAs(element) {
    if (element.id) return `#${CSS.escape(element.id)}`;
    const href = element.getAttribute("href");
    if (href) return `a[href="${CSS.escape(href)}"]`;
    const kept = element.closest("[data-keep]");
    return kept ? `[data-keep="${CSS.escape(kept.dataset.keep)}"] > summary` : "";
  }

  function exchange(old, fresh) {
    const focused = old.contains(document.activeElement) ? sameAs(document.activeElement) : "";
    const unfolded = [...old.querySelectorAll("details[open]")].map((each) => each.dataset.keep);
    old.replaceChildren(...fresh.childNodes);
    for (const each of old.querySelectorAll("details")) each.open = unfolded.includes(each.dataset.keep);
    if (focused) old.querySelector(focused)?.focus({ preventScroll: true });
  }

  // A token that protects a form is another one each time.
  const comparable = (part) => part.innerHTML.replace(/ name="csrfmiddlewaretoken" value="\w+"| open=""/g, "");

  function show(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    for (const part of fresh.querySelectorAll("[data-part]")) {
      const old = page.querySelector(`[data-part="${part.dataset.part}"]`);
      if (old && comparable(old) !== comparable(part)) exchange(old, part);
    }
  }

  function tellAge() {
    const seconds = Math.round((performance.now() - heardAt) / 1000);
    age.textContent = seconds < 25 ? "This page keeps itself up to date." : `No answer for ${seconds} s: this is how it was then.`;
  }

  async function look() {
    const began = performance.now();
    looks += 1;
    const all = looks % LOOKS_PER_ALL ? "" : "?all";
    try {
      const response = await fetch(page.dataset.state + all, { headers: { Accept: "text/html" } });
      if (response.redirected || response.status === 403) return location.reload();
      if (response.ok) {
        show(await response.text());
        heardAt = performance.now();
      }
    } catch {
      // The service or the network is away: the page stays as it was, and says so.
    }
    tellAge();
    // Where an answer takes long, never a second look before a multiple of that.
    later(Math.max(EVERY, 5 * (performance.now() - began)));
  }

  function later(wait) {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, wait);
  }

  document.addEventListener("visibilitychange", () => later(0));
  later(EVERY);
})();
