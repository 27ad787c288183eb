// The page to try it. Without this script its form still sends; with it the page stays, so that one sees the bells ring,
// the call from a shell is written while one types, and the list of what was sent keeps itself up to date.
"use strict";

(() => {
const page = document.getElementById("try");
const form = document.getElementById("try-form");
const told = document.getElementById("told");
const call = document.getElementById("curl");

// --- The call, as notifications/playground/curl.py and forms.py write it -------------------------------------------

const NOT_OF = { email: ["url"], sms: ["title", "html", "url"], in_app: ["html"] };
const ALWAYS = ["channel", "recipient", "message"];

function bodyOf(fields) {
  const body = {};
  for (const name of ["channel", "recipient", "title", "message", "html", "url", "priority"]) {
    const text = String(fields.get(name) ?? "").replaceAll("\r\n", "\n");
    const usual = !text || (name === "priority" && text === "normal");
    if (ALWAYS.includes(name) || !(usual || (NOT_OF[fields.get("channel")] ?? []).includes(name))) body[name] = text;
  }
  const delay = Number(fields.get("delay"));
  if (delay) body.scheduled_for = new Date(Date.now() + delay * 1000).toISOString().replace(/\.\d+/, "");
  return body;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function writeCall() {
  const body = JSON.stringify(bodyOf(new FormData(form)), null, 2);
  call.textContent =
    `curl -i ${page.dataset.baseUrl}/api/v1/notifications \\\n` +
    '  -H "Authorization: Bearer $API_KEY" \\\n' +
    '  -H "Content-Type: application/json" \\\n' +
    `  -d ${quoted(body)}`;
}

// --- Parts of the page, rendered by the server ----------------------------------------------------------------------

const partOf = (root, name) => root.querySelector(`[data-part="${name}"]`);

/** In the list of the same messages, only what is told of them: who reads it, or stands on a link, is not disturbed. */
function retell(fresh) {
  const old = partOf(page, "sent");
  const ids = (list) => [...list.querySelectorAll("li")].map((row) => row.dataset.id).join();
  if (ids(old) !== ids(fresh)) return old.replaceChildren(...fresh.childNodes);
  old.querySelector("ol").dataset.moving = fresh.querySelector("ol").dataset.moving;
  const told = fresh.querySelectorAll("[data-live]");
  old.querySelectorAll("[data-live]").forEach((each, place) => {
    if (each.outerHTML !== told[place].outerHTML) each.replaceWith(told[place]);
  });
}

const parsed = (html) => new DOMParser().parseFromString(html, "text/html");

// --- Sending ----------------------------------------------------------------------------------------------------------

async function send() {
  const fields = new URLSearchParams(new FormData(form));
  told.textContent = "Sending ...";
  let response;
  try {
    response = await fetch(form.action, { method: "POST", body: fields });
  } catch {
    told.textContent = "The service does not answer. Nothing is known to be sent.";
    return;
  }
  const fresh = parsed(await response.text());
  // A page to sign in, or an error of another kind.
  if (!partOf(fresh, "form")) return location.reload();
  retell(partOf(fresh, "sent"));
  if (response.ok) accepted(fields.get("recipient"));
  else refused(fresh);
  look(500);
}

function accepted(recipient) {
  for (const error of form.querySelectorAll(".error")) error.remove();
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  told.textContent = `Accepted, for ${recipient}.`;
  writeCall();
}

function refused(fresh) {
  partOf(form, "form").replaceChildren(...partOf(fresh, "form").childNodes);
  told.textContent = "";
  (form.querySelector("[aria-invalid]") ?? form.querySelector("input"))?.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

// An address of another channel would be refused; whatever one has typed oneself stays.
const SAMPLES = { email: "ada@example.com", sms: "+12025550147", in_app: page.dataset.left };

form.addEventListener("change", (event) => {
  const { recipient } = form.elements;
  const typed = ![...Object.values(SAMPLES), ""].includes(recipient.value);
  if (event.target.name === "channel" && !typed) recipient.value = SAMPLES[event.target.value];
});

const QUICK = [
  ["Your order has shipped", "It is on its way, and arrives on Thursday."],
  ["Grace has replied", "“Looks good to me. Shall we ship it?”"],
  ["Your table is booked", "For two, tonight at eight."],
  ["The backup is done", "Everything is kept twice."],
];
let quick = 0;

for (const each of document.querySelectorAll("form[data-quick]")) {
  each.addEventListener("submit", (event) => {
    event.preventDefault();
    const [title, message] = QUICK[quick++ % QUICK.length];
    form.querySelector('input[value="in_app"]').checked = true;
    const values = { recipient: each.elements.recipient.value, title, message, url: "", delay: "0" };
    for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
    writeCall();
    send();
  });
}

// --- What becomes of them -------------------------------------------------------------------------------------------

let timer = 0;

function look(wait) {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(lookNow, wait);
}

async function lookNow() {
  const began = performance.now();
  try {
    const response = await fetch(page.dataset.sent, { headers: { Accept: "text/html" } });
    if (response.redirected || response.status === 403) return location.reload();
    if (response.ok) retell(parsed(await response.text()).body);
  } catch {
    // The service is away: the list stays as it was.
  }
  const every = page.querySelector('[data-moving="1"]') ? 1000 : 5000;
  look(Math.max(every, 5 * (performance.now() - began)));
}

document.addEventListener("visibilitychange", () => look(0));

// --- The bells --------------------------------------------------------------------------------------------------------

async function tokenFor(user) {
  const csrf = form.elements.csrfmiddlewaretoken.value;
  const response = await fetch(page.dataset.tokens, {
    method: "POST",
    headers: { "X-CSRFToken": csrf },
    body: new URLSearchParams({ user }),
  });
  if (response.redirected) location.reload();
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  return (await response.json()).token;
}

// A bell without a token asks for one, at first as when it is over.
for (const bell of document.querySelectorAll("notify-bell")) bell.renew = () => tokenFor(bell.dataset.user);

// --- Copying ------------------------------------------------------------------------------------------------------------

const copy = document.getElementById("copy");
copy.hidden = !navigator.clipboard;
copy.addEventListener("click", async () => {
  writeCall();
  await navigator.clipboard.writeText(call.textContent);
  copy.textContent = "Copied";
  setTimeout(() => (copy.textContent = "Copy"), 2000);
});

form.addEventListener("input", writeCall);
form.addEventListener("change", writeCall);
writeCall();
look(1000);
})();
