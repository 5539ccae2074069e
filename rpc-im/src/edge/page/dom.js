// Helpers for elements, names and times.

export const $ = id => document.getElementById(id);

// Creates an element. Text from users is only ever set by this function or by `textContent`, so it is never markup.
export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  svg.setAttribute("aria-hidden", "true");
  return svg;
}

// Shows one child of `parent` for each entry {key, shown, build}, in order. An element is built again only if `shown`,
// the text of everything that it displays, has changed: selections, focus and pressed buttons survive an update.
export function showEntries(parent, entries) {
  const known = new Map([...parent.children].map(child => [child.dataset.key, child]));
  const focused = document.activeElement?.closest?.("[data-key]");
  const wasFocused = focused?.parentElement === parent ? focused.dataset.key : null;
  entries.forEach(({ key, shown, build }, place) => {
    let child = known.get(key);
    if (!child || child.shown !== shown) {
      const made = build();
      made.dataset.key = key;
      made.shown = shown;
      if (child) child.replaceWith(made);
      if (wasFocused === key) made.querySelector("button")?.focus();
      child = made;
    }
    known.delete(key);
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
  for (const child of known.values()) child.remove();
}

export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
}

const hue = name => [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);

export const nameColor = name => `light-dark(hsl(${hue(name)} 50% 30%), hsl(${hue(name)} 50% 72%))`;

// Shows the first letter of a name on a colour of the name.
export function face(target, name, isOnline) {
  target.textContent = [...name][0] || "?";
  target.style.background = `hsl(${hue(name)} 42% 32%)`;
  target.classList.toggle("online", !!isOnline);
  return target;
}

export const clock = time => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

export function dayOf(time) {
  const day = new Date(time), now = new Date();
  if (day.toDateString() === now.toDateString()) return "Today";
  if (day.toDateString() === new Date(now - 86_400_000).toDateString()) return "Yesterday";
  const year = day.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return day.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", year });
}

export const shortDate = time =>
  dayOf(time) === "Today" ? clock(time) : new Date(time).toLocaleDateString([], { day: "numeric", month: "short" });

// Returns the names in a list that a user typed, without duplicates.
export const namesIn = text => [...new Set(text.split(",").map(name => name.trim()).filter(Boolean))];
