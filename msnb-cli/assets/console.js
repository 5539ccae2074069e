// Streams of calls, and changes of the registry and of counters as they happen. Without this file, all other pages work.
"use strict";

/// Reads server-sent events from the answer of a POST request, which `EventSource` cannot send. Yields those of one read
/// at a time.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const texts = (buffer + value).split("\n\n");
    buffer = texts.pop();
    yield texts.map(parse).filter((event) => event.data.length > 0);
    // The page stays usable while a stream is faster than it: the server then waits.
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

function parse(text) {
  const event = { name: "message", data: "" };
  for (const line of text.split("\n")) {
    if (line.startsWith("event:")) event.name = line.slice(6).trim();
    if (line.startsWith("data:")) event.data += line.slice(5).replace(/^ /, "");
  }
  return event;
}

/// The largest number of items that the page shows.
const MAX_ITEMS = 1000;

function openStream(form) {
  const [state, list] = ["state", "items-list"].map((id) => document.getElementById(id));
  const [send, stop] = ["send", "stop"].map((id) => document.getElementById(id));
  const abort = new AbortController();
  const show = (text) => { state.textContent = text; };
  document.getElementById("stream").hidden = false;
  list.replaceChildren();
  show("opening");
  send.disabled = true;
  stop.disabled = false;
  stop.onclick = () => abort.abort();
  const body = new URLSearchParams(new FormData(form));
  const run = async () => {
    const response = await fetch(form.dataset.stream, { method: "POST", body, signal: abort.signal });
    if (!response.ok) throw new Error(`status ${response.status}: ${await response.text()}`);
    show("open");
    for await (const batch of events(response)) {
      const items = batch.filter((event) => event.name === "item").slice(-MAX_ITEMS);
      list.append(...items.map((item) => {
        const line = document.createElement("li");
        line.textContent = item.data;
        return line;
      }));
      while (list.children.length > MAX_ITEMS) list.firstChild.remove();
      list.scrollTop = list.scrollHeight;
      const end = batch.find((event) => event.name !== "item");
      if (end) return show(end.data);
    }
    show("the console has closed the stream");
  };
  run()
    .catch((error) => show(abort.signal.aborted ? "stopped" : String(error.message)))
    .finally(() => {
      send.disabled = false;
      stop.disabled = true;
    });
}

/// Shows the providers again after each change.
function followProviders(element) {
  const source = new EventSource(element.dataset.events);
  source.addEventListener("changed", async () => {
    const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    const fresh = page.getElementById("providers");
    if (fresh) element.replaceChildren(...fresh.childNodes);
  });
}

/// Shows the counters again and again, while the page is visible.
function followCounters(element) {
  const show = async () => {
    if (!document.hidden) {
      const response = await fetch(element.dataset.part);
      if (response.ok) {
        const part = new DOMParser().parseFromString(await response.text(), "text/html");
        element.replaceChildren(...part.body.childNodes);
      }
    }
  };
  // The console may have ended; a later try finds it again.
  const again = () => setTimeout(() => show().catch(() => {}).finally(again), COUNTERS_INTERVAL);
  again();
}

/// The time between two readings of the counters, in milliseconds.
const COUNTERS_INTERVAL = 2000;

const call = document.querySelector("form[data-stream]");
call?.addEventListener("submit", (event) => {
  event.preventDefault();
  openStream(call);
});
const providers = document.querySelector("[data-events]");
if (providers) followProviders(providers);
const counters = document.querySelector("[data-part]");
if (counters) followCounters(counters);
