// @ts-check
// What pages do beyond what they do without script: copy, follow logs, stay up to date.

/**
 * @typedef {{url: string, source: EventSource | null, last: string, listeners: [string, (event: MessageEvent) => void][]}} Stream
 * @type {Map<string, Stream>}
 */
const streams = new Map();
const mostLines = 5000;
const restAfter = 20_000;

/**
 * Listens to a stream: one connection an address, however many parts of the page listen to it.
 * @param {string} url
 * @param {string} name
 * @param {(event: MessageEvent) => void} listener
 */
function listen(url, name, listener) {
	let s = streams.get(url);
	if (!s) {
		s = { url, source: null, last: "", listeners: [] };
		streams.set(url, s);
		open(s);
	}
	const known = s;
	const hear = (/** @type {MessageEvent} */ event) => {
		known.last = event.lastEventId || known.last;
		listener(event);
	};
	s.listeners.push([name, hear]);
	s.source?.addEventListener(name, hear);
}

/** @param {Stream} s */
function open(s) {
	const url = new URL(s.url, location.href);
	if (s.last) url.searchParams.set("last", s.last);
	const source = new EventSource(url);
	for (const [name, hear] of s.listeners) source.addEventListener(name, hear);
	source.addEventListener("end", () => {
		source.close();
		streams.delete(s.url);
	});
	s.source = source;
}

// A browser has six connections to a site without TLS: pages that nobody looks at give theirs back.
let resting = 0;
document.addEventListener("visibilitychange", () => {
	clearTimeout(resting);
	if (document.hidden) resting = setTimeout(rest, restAfter);
	else wake();
});
// A page that was left stays in memory, with its connections, for "back" to show it at once.
addEventListener("pagehide", rest);
addEventListener("pageshow", wake);

function rest() {
	for (const s of streams.values()) {
		s.source?.close();
		s.source = null;
	}
}

function wake() {
	for (const s of streams.values()) if (!s.source) open(s);
}

/**
 * Tells those who do not see it.
 * @param {string} text
 */
function say(text) {
	const said = document.getElementById("said");
	if (said) said.textContent = text;
}

/** @param {HTMLElement} button */
async function copy(button) {
	await navigator.clipboard.writeText(button.dataset.copy ?? "");
	say(button.dataset.done ?? "");
	button.classList.add("copied");
	setTimeout(() => button.classList.remove("copied"), 1500);
}

/**
 * A line as the template log-line draws it.
 * @param {{time?: string, source?: string, stream?: string, text: string}} line
 */
function logLine(line) {
	const div = document.createElement("div");
	if (line.stream) div.className = line.stream;
	if (line.time) {
		const time = document.createElement("time");
		const at = new Date(line.time);
		time.dateTime = line.time;
		time.title = at.toLocaleString();
		time.textContent = line.time.slice(11, 19);
		div.append(time, " ");
	}
	if (line.source) {
		const source = document.createElement("b");
		source.textContent = line.source;
		div.append(source, " ");
	}
	const text = document.createElement("span");
	text.textContent = line.text;
	div.append(text);
	return div;
}

/** @param {HTMLElement} box */
function follow(box) {
	const atEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < 40;
	const toEnd = () => { box.scrollTop = box.scrollHeight; };
	toEnd();
	const url = box.dataset.stream;
	if (!url) return;
	/** @type {HTMLElement[]} */
	let waiting = [];
	const show = () => {
		const stay = atEnd();
		box.querySelector(".log-empty")?.remove();
		box.append(...waiting);
		waiting = [];
		for (let extra = box.childElementCount - mostLines; extra > 0; extra--) box.firstElementChild?.remove();
		if (stay) toEnd();
	};
	listen(url, "message", (event) => {
		if (waiting.length === 0) requestAnimationFrame(show);
		waiting.push(logLine(JSON.parse(event.data)));
	});
	listen(url, "end", () => {
		if ("reload" in box.dataset) location.reload();
	});
}

/**
 * What a person is typing into must not vanish.
 * @param {HTMLElement} part
 */
function editing(part) {
	const at = document.activeElement;
	return at !== null && part.contains(at) && at.matches("input, textarea, select");
}

/** @param {HTMLElement} part */
function keepFresh(part) {
	const { refresh, events, when } = part.dataset;
	if (!refresh || !events) return;
	let busy = false;
	let again = false;
	const load = async () => {
		if (busy || document.hidden) {
			again = true;
			return;
		}
		busy = true;
		again = false;
		try {
			const answer = await fetch(refresh, { headers: { Accept: "text/html" } });
			if (answer.ok && !editing(part)) {
				part.innerHTML = await answer.text();
				enliven(part);
			}
		} catch {
			// The connection is gone; the stream comes back by itself and asks again.
		}
		busy = false;
		if (again) load();
	};
	for (const name of (when ?? "change").split(" ")) listen(events, name, load);
	document.addEventListener("visibilitychange", () => {
		if (!document.hidden) load(); // what happened meanwhile was perhaps not heard
	});
}

/**
 * @param {ParentNode} root
 * @param {string} selector
 * @returns {Iterable<HTMLElement>}
 */
function each(root, selector) {
	return /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll(selector));
}

/** @param {ParentNode} root */
function enliven(root) {
	if (navigator.clipboard) for (const button of each(root, "[data-copy]")) button.hidden = false;
	for (const time of each(root, "time[datetime]")) time.title = new Date(/** @type {HTMLTimeElement} */ (time).dateTime).toLocaleString();
	for (const box of each(root, ".log")) follow(box);
	for (const part of each(root, "[data-refresh]")) keepFresh(part);
}

document.addEventListener("click", (event) => {
	const target = /** @type {Element} */ (event.target);
	const button = /** @type {HTMLElement | null} */ (target.closest("[data-copy]"));
	if (button) copy(button);
	for (const menu of document.querySelectorAll("details.menu[open]")) {
		if (!menu.contains(target)) menu.removeAttribute("open");
	}
});

document.addEventListener("keydown", (event) => {
	if (event.key !== "Escape") return;
	const menu = document.querySelector("details.menu[open]");
	menu?.removeAttribute("open");
	menu?.querySelector("summary")?.focus();
});

enliven(document);
