// <notify-bell>: a person's in-app messages on any page. How to use it: docs/inbox.md.
(() => {
const HOME = new URL(document.currentScript?.src || location.href).origin;
const SILENCE = 40000; // ms; there is a ping every 15 s
const [SHORTEST_WAIT, LONGEST_WAIT] = [1000, 30000];
const [MOST_TOASTS, TOAST_LASTS, WIDTH] = [3, 6000, 384];
const REFUSED = 401;
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

/** What is in the inbox, kept up to date. Each change has the number after that of the one before. */
class Inbox {
	items = [];
	position = -1;
	unread = 0;
	#over = new AbortController();
	#turn = Promise.resolve();

	constructor(bell, token) {
		Object.assign(this, { bell, token, base: (bell.getAttribute("src") || HOME).replace(/\/$/, "") });
		for (const name of ["online", "focus"]) addEventListener(name, () => this.wake?.(), this.#over);
		this.#run();
	}

	end() {
		this.#over.abort();
		this.channel?.close();
		this.wake?.();
	}

	async #fetch(url, options) {
		const headers = { Authorization: `Bearer ${this.token}` };
		const response = await fetch(url, { headers, cache: "no-store", signal: this.#over.signal, ...options });
		if (!response.ok) throw response.status;
		return response;
	}

	/** The stream says what came of it. */
	async change(method, path, what) {
		const body = new Blob([JSON.stringify(what)], { type: "application/json" });
		const send = () => this.#fetch(`${this.base}/api/v1/inbox${path}`, { method, body, keepalive: true });
		await send().catch((error) => error === REFUSED && this.#renew().then(send)).catch(() => {});
		if (!this.streamUrl) this.#loadAnew();
	}

	async #run() {
		for (this.wait = SHORTEST_WAIT; !this.#over.signal.aborted; this.wait = Math.min(2 * this.wait, LONGEST_WAIT)) {
			try {
				if (!this.token) throw REFUSED;
				// Also where the stream stays away.
				if (this.position < 0 || this.wait > 2 * SHORTEST_WAIT) await this.load();
				await this.#stayInTouch();
			} catch (error) {
				if (error === REFUSED) await this.#renew().catch(() => {});
			}
			await this.#pause(this.wait * (0.5 + Math.random()));
		}
	}

	/** One thing after the other: what comes while the list is loaded waits. */
	#inTurn(act) {
		const done = this.#turn.then(act);
		this.#turn = done.catch(() => {});
		return done;
	}

	load(older) {
		return this.#inTurn(async () => {
			const page = await (await this.#fetch(older || `${this.base}/api/v1/inbox`)).json();
			if (older) page.results.forEach((item) => this.#put(item));
			else Object.assign(this, { items: page.results, position: page.position, unread: page.unread });
			Object.assign(this, { next: page.next, name: page.inbox, streamUrl: page.stream_url });
			this.bell.show();
		});
	}

	#loadAnew() {
		this.loading ??= this.load().catch(() => {}).finally(() => (this.loading = null));
	}

	/** One stream for all tabs: who holds the lock reads it, and passes on what comes. */
	async #stayInTouch() {
		const name = `notify-bell ${this.base} ${this.name}`;
		this.channel ??= new BroadcastChannel(name);
		this.channel.onmessage = ({ data }) => this.#take(data);
		if (!this.streamUrl) return;
		const read = () => this.#read();
		await (navigator.locks?.request(name, { signal: this.#over.signal }, read) ?? read());
	}

	/** Until it ends, or is silent. */
	async #read() {
		const silent = new AbortController();
		const signal = AbortSignal.any([silent.signal, this.#over.signal]);
		let timer;
		const heard = () => (clearTimeout(timer), (timer = setTimeout(() => silent.abort(), SILENCE)));
		try {
			heard();
			const response = await this.#fetch(`${this.streamUrl}?after=${this.position}`, { signal });
			const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
			for (let rest = "", part; !(part = await reader.read()).done; ) {
				heard();
				const blocks = (rest + part.value).split(/\r?\n\r?\n/);
				rest = blocks.pop();
				blocks.forEach((block) => this.#receive(block));
			}
		} finally {
			clearTimeout(timer);
		}
	}

	#receive(block) {
		const { event, data } = Object.fromEntries(block.split(/\r?\n/).map((line) => line.split(/: ?([^]*)/)));
		if (!data) return;
		this.wait = SHORTEST_WAIT;
		const told = { event, ...JSON.parse(data) };
		if (event === "end" && told.code.startsWith("token_")) throw REFUSED;
		this.channel.postMessage(told);
		this.#take(told);
	}

	#take(told) {
		const { event, position, unread, notification, id, read_up_to, read_at } = told;
		this.#inTurn(() => {
			const expected = this.position + (event === "count" ? 0 : 1);
			if (event === "reset" || position > expected) return this.#loadAnew();
			if (position !== expected) return;
			Object.assign(this, { position, unread });
			if (notification) this.#put(notification);
			if (event === "removed") this.items = this.items.filter((item) => item.id !== id);
			for (const item of this.items) if (item.position <= read_up_to) item.read_at ??= read_at;
			this.bell.show(event === "created" && notification);
		});
	}

	#put(item) {
		this.items = this.items.filter(({ id }) => id !== item.id);
		if (!item.archived_at) this.items.push(item);
		this.items.sort((a, b) => b.position - a.position);
	}

	/** The token is over; the page has another one. */
	async #renew() {
		const url = this.bell.getAttribute("token-url");
		if (this.bell.renew) this.token = await this.bell.renew();
		else if (url) this.token = (await (await fetch(url, { cache: "no-store" })).json()).token;
		else this.bell.tell("notify-token-expired");
	}

	/** Shorter when online, or looked at, again. */
	#pause(ms) {
		return new Promise((resolve) => setTimeout((this.wake = resolve), ms));
	}
}

const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
:host{--accent:var(--notify-accent, light-dark(#2653c9, #8fb0ff));--line:light-dark(#dfe3ea, #2d3441);
	--quiet:light-dark(#5a6376, #a0a9ba);color:var(--notify-text, light-dark(#1d2330, #e8ebf1));
	color-scheme:light dark;display:inline-block;font:15px/1.4 system-ui, sans-serif}
[hidden]{display:none !important}
button, a{all:unset;position:relative;display:block;box-sizing:border-box;padding:8px;border-radius:8px;cursor:pointer}
:focus-visible{outline:2px solid var(--accent)}
i{display:block;width:24px;height:24px;background:currentColor;clip-path:path("M12 22a2 2 0 0 0 2-2h-4a2 2 0 0 0 2 2zm6-6v-5c0-3-2-6-5-6V4a1 1 0 0 0-2 0v1C8 5 6 8 6 11v5l-2 2v1h16v-1z")}
.badge{position:absolute;top:0;left:20px;padding:0 5px;border-radius:9px;background:#c8102e;color:#fff;font-size:12px}
[popover], .toast{background:var(--notify-background, light-dark(#fff, #1b2029));border:1px solid var(--line);border-radius:12px;box-shadow:0 8px 30px #0003}
[popover]{position:fixed;inset:auto;margin:0;padding:0;width:min(${WIDTH}px, 100% - 16px);max-height:70vh;color:inherit}
header{display:flex;justify-content:space-between;align-items:center;padding-inline-start:12px}
header button, .older{color:var(--accent)}
ul{list-style:none;margin:0;padding:0}
li{display:flex;align-items:start;border-top:1px solid var(--line);padding:4px}
.item{flex:1;min-width:0;overflow-wrap:anywhere;white-space:pre-line;border-inline-start:3px solid #0000}
.unread .item{border-color:var(--accent)}
b, time{display:block} time{color:var(--quiet);font-size:13px}
ul:empty::after{display:block;padding:24px;text-align:center;content:"Nothing here yet."}
.toasts{position:fixed;z-index:9999;bottom:16px;right:16px;width:min(22rem, calc(100% - 32px))}
.toast{width:100%;margin-top:8px;padding:12px;overflow-wrap:anywhere}`);

/** Text stays text: nothing is read as HTML. */
function make(tag, attributes = {}, ...content) {
	const made = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (value.call) made.addEventListener(name, value);
		else made.setAttribute(name, value);
	}
	made.append(...content);
	return made;
}

function ago(when) {
	const seconds = (when - Date.now()) / 1000;
	const [unit, size] = UNITS.find(([, size]) => -seconds >= size) || ["second", 1];
	const format = new Intl.RelativeTimeFormat(document.documentElement.lang || "en", { numeric: "auto" });
	return format.format(Math.round(seconds / size), unit);
}

class Bell extends HTMLElement {
	static observedAttributes = ["token", "src"];

	connectedCallback() {
		if (!this.shadowRoot) this.#build();
		this.#start();
	}

	disconnectedCallback() {
		this.inbox.end();
	}

	attributeChangedCallback() {
		if (this.inbox && this.isConnected) this.#start();
	}

	#start() {
		this.inbox?.end();
		this.inbox = new Inbox(this, this.getAttribute("token"));
	}

	#build() {
		this.badge = make("span", { class: "badge" });
		this.button = make("button", { "aria-label": "Notifications" }, make("i"), this.badge);
		this.list = make("ul");
		this.all = make("button", { click: () => this.inbox.change("POST", "/read-all", { up_to: this.inbox.position }) }, "Mark all read");
		this.older = make("button", { class: "older", click: () => this.inbox.load(this.inbox.next).catch(() => {}) }, "Older ones");
		const title = make("header", {}, make("strong", {}, "Notifications"), this.all);
		this.panel = make("div", { popover: "", role: "dialog", "aria-label": "Notifications", beforetoggle: (event) => this.#open(event) }, title, this.list, this.older);
		this.button.popoverTargetElement = this.panel;
		this.toasts = make("div", { class: "toasts", role: "status" });
		const root = this.attachShadow({ mode: "open" });
		root.adoptedStyleSheets = [STYLE];
		root.append(this.button, this.panel, this.toasts);
	}

	/** `fresh` has just come. */
	show(fresh) {
		const { items, unread, next } = this.inbox;
		this.badge.textContent = unread > 99 ? "99+" : unread;
		this.badge.hidden = this.all.hidden = !unread;
		this.button.setAttribute("aria-label", `Notifications, ${unread} unread`);
		const focused = this.shadowRoot.activeElement?.id;
		this.list.replaceChildren(...items.map((item) => this.#row(item)));
		if (focused) this.shadowRoot.getElementById(focused)?.focus();
		this.older.hidden = !next;
		this.tell("notify-count", { unread });
		if (fresh) this.#toast(fresh);
	}

	#row(item) {
		const when = new Date(item.delivered_at);
		const time = make("time", { datetime: item.delivered_at, title: when.toLocaleString() }, ago(when));
		const label = `Archive ${item.title || item.message}`;
		const archive = make("button", { id: `x${item.id}`, "aria-label": label, click: () => this.#mark(item, "archived") }, "×");
		return make("li", { class: item.read_at ? "" : "unread" }, this.#opener(item, "item", time), archive);
	}

	/** Opening it reads it, and follows its link; javascript: is none. */
	#opener(item, name, ...more) {
		const link = /^https?:\/\//i.test(item.url) && { href: item.url };
		const attributes = { class: name, id: name + item.id, click: () => item.read_at || this.#mark(item, "read"), ...link };
		return make(link ? "a" : "button", attributes, make("b", {}, item.title), item.message, ...more);
	}

	#toast(item) {
		this.tell("notify-created", item);
		if (document.hidden) return;
		const toast = this.#opener(item, "toast");
		this.toasts.append(toast);
		if (this.toasts.children.length > MOST_TOASTS) this.toasts.firstChild.remove();
		toast.addEventListener("click", () => toast.remove());
		const leave = () => (toast.matches(":hover, :focus") ? setTimeout(leave, TOAST_LASTS) : toast.remove());
		setTimeout(leave, TOAST_LASTS);
	}

	#open({ newState }) {
		if (newState !== "open") return this.panel.contains(this.shadowRoot.activeElement) && this.button.focus();
		const { bottom, right } = this.button.getBoundingClientRect();
		Object.assign(this.panel.style, { top: `${bottom}px`, left: `${Math.max(8, right - WIDTH)}px` });
		this.show();
		if (this.hasAttribute("read-on-open")) this.all.click();
	}

	#mark(item, status) {
		this.inbox.change("PATCH", `/${item.id}`, { status });
	}

	tell(name, detail) {
		this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
	}
}
customElements.define("notify-bell", Bell);
})();
