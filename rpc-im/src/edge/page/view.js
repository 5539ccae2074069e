// The conversation list and the messages of the current conversation.

import { changeText, isRecalled } from "./conversation.js";
import { $, clock, dayOf, element, face, icon, nameColor, shortDate, showEntries } from "./dom.js";
import { current, ordered, state, unsentOf, user } from "./state.js";
import { reportRead } from "./frames.js";
import { loadHistory } from "./requests.js";
import { openMessageMenu } from "./dialogs.js";
import { show } from "./main.js";

// Adjacent messages of one sender within this time form a group.
const GROUP_TIME = 180_000;
// The number of messages that are displayed before the user scrolls back, and how many each scroll adds.
const DISPLAYED = 150;

let frame = 0, jumps = false, isFollowing = true, displayed = { key: null, count: DISPLAYED };

// Schedules an update, at most one per animation frame; `toEnd` scrolls to the last message.
export function draw(toEnd = false) {
  jumps ||= toEnd;
  frame ||= requestAnimationFrame(() => drawNow());
  // A hidden page has no animation frames.
  if (document.hidden) setTimeout(() => frame && drawNow(), 0);
}

export function drawNow(toEnd = false) {
  cancelAnimationFrame(frame);
  frame = 0;
  if (!state.me || isPressed) return;
  drawThread(jumps || toEnd);
  jumps = false;
  reportRead();
  drawList();
}

// An update between the press and the release of a button could move or replace it, so that it receives no click.
let isPressed = false;
addEventListener("pointerdown", event => { isPressed = !!event.target.closest?.("button"); }, true);
addEventListener("click", () => { isPressed = false; }, true);
for (const end of ["pointerup", "pointercancel", "blur"]) {
  addEventListener(end, () => setTimeout(() => {
    isPressed = false;
    draw();
  }, 0));
}

/* The status. */

export function showStatus(status, text) {
  const { node } = state.connection ?? { node: "" };
  $("status").dataset.state = status;
  $("status").dataset.node = node;
  $("status").lastChild.textContent = text;
  $("here").textContent = node ? `node ${node}` : "";
  draw();
}

/* The list. */

function drawList() {
  const conversations = ordered($("find").value);
  showEntries($("conversations"), conversations.map(listEntry));
  $("nobody").hidden = conversations.length > 0;
  $("nobody").textContent = state.conversations.size ? "No conversation has this name."
    : "No conversations yet. The plus button starts one.";
  const unread = [...state.conversations.values()].reduce((sum, { unread }) => sum + unread, 0);
  document.title = (unread ? `(${unread}) ` : "") + user() + " · msnb";
}

function listEntry(conversation) {
  const { key, unread, last, isGroup, isGone } = conversation;
  const title = conversation.title(user()), waiting = unsentOf(conversation).at(-1);
  const isOnline = !!state.online.get(conversation.peer(user()));
  const parts = {
    title, isOnline, isGone, unread, isCurrent: key === state.current,
    preview: waiting ? `You: ${waiting.body}` : last ? previewOf(last, isGroup) : "No messages yet",
    time: waiting ? shortDate(waiting.time) : last ? shortDate(last.time) : "",
  };
  return { key, shown: JSON.stringify(parts), build: () => listRow(key, parts) };
}

function previewOf(message, isGroup) {
  if (message.kind === "members") return changeText(message, user());
  const sender = message.from === user() ? "You: " : isGroup ? `${message.from}: ` : "";
  return sender + (isRecalled(message) ? "Message recalled" : message.body);
}

function listRow(key, { title, isOnline, isGone, unread, isCurrent, preview, time }) {
  const row = element("li"), button = element("button"), who = element("div", "who");
  const picture = face(element("div", "face"), title, isOnline);
  picture.setAttribute("aria-hidden", "true");
  const name = element("b", "", title);
  if (isOnline) name.append(element("span", "aside", " (online)"));
  who.append(name, element("time", "", time), element("span", "preview", preview));
  if (unread) {
    const count = element("span", "count", unread > 999 ? "999+" : unread);
    count.append(element("span", "aside", " unread"));
    who.append(count);
  }
  button.append(picture, who);
  button.setAttribute("aria-current", isCurrent);
  button.onclick = () => show(key);
  row.classList.toggle("gone", isGone);
  row.append(button);
  return row;
}

/* The messages. */

function drawThread(toEnd) {
  const conversation = current(), isShown = !!conversation;
  $("empty").hidden = isShown;
  for (const part of [$("thread").querySelector("header"), $("messages-area")]) part.hidden = !isShown;
  $("composer").hidden = !isShown || conversation.isGone;
  $("gone").hidden = !isShown || !conversation.isGone;
  $("banner").hidden = !isShown || !!state.connection.node;
  $("banner").textContent = "Not connected. Messages are sent after the reconnect.";
  if (!isShown) return;
  drawHeader(conversation);
  if (displayed.key !== conversation.key) displayed = { key: conversation.key, count: DISPLAYED };
  const log = $("messages"), followsEnd = toEnd || isFollowing;
  // The first visible message keeps its place when earlier ones are inserted.
  const anchor = [...log.children].find(row => row.dataset.seq && row.offsetTop + row.offsetHeight > log.scrollTop);
  const before = anchor?.offsetTop;
  log.setAttribute("aria-busy", conversation.isLoading);
  showEntries(log, threadEntries(conversation));
  if (followsEnd) log.scrollTop = log.scrollHeight;
  else if (anchor?.isConnected) log.scrollTop += anchor.offsetTop - before;
  isFollowing = followsEnd;
  drawDown(conversation);
  loadWhenNearTop(conversation);
}

function drawHeader(conversation) {
  const peer = conversation.peer(user()), { members, count, isGroup } = conversation;
  face($("peer-face"), conversation.title(user()), state.online.get(peer));
  $("peer-name").textContent = conversation.title(user());
  const names = members.length ? `: ${members.join(", ")}` : "";
  $("peer-note").textContent = isGroup ? `${count} ${count === 1 ? "member" : "members"}${names}`
    : state.online.get(peer) ? "online" : "offline";
  $("people").hidden = !isGroup || conversation.isGone;
  $("gone").textContent = "You are not a member of this group any more.";
}

function threadEntries(conversation) {
  const entries = [], { floor, cursor, messages } = conversation;
  const all = [];
  for (let seq = cursor; seq > floor && all.length < displayed.count; seq--) {
    const message = messages.get(seq);
    if (message?.kind === "text" || message?.kind === "members") all.push(message);
  }
  all.reverse();
  for (const message of unsentOf(conversation)) all.push({ ...message, kind: "text", from: user(), unsent: message });
  if (conversation.isLoading) entries.push(line("loading", "note", "Loading earlier messages…"));
  let notes = conversation.notes.map((note, number) => ({ ...note, number }));
  const addNotes = isBefore => {
    for (const { number, text } of notes.filter(isBefore)) entries.push(line(`note-${number}`, "note", text));
    notes = notes.filter(note => !isBefore(note));
  };
  let day = "", hasDivider = false;
  all.forEach((message, place) => {
    if (message.seq) addNotes(note => note.after < message.seq);
    const startsDay = dayOf(message.time) !== day;
    if (startsDay) {
      day = dayOf(message.time);
      entries.push(line(`day-${day}`, "day", day));
    }
    const isUnread = conversation.divider !== null && message.seq > conversation.divider && message.from !== user();
    if (isUnread && !hasDivider) {
      hasDivider = true;
      entries.push(line("divider", "divider", "New messages"));
    }
    if (message.kind === "members") return entries.push(line(`${message.seq}`, "note", changeText(message, user())));
    const isNear = other => other?.kind === "text" && other.from === message.from
      && Math.abs(other.time - message.time) < GROUP_TIME && dayOf(other.time) === day;
    entries.push(messageEntry(conversation, message, !isNear(all[place - 1]), !isNear(all[place + 1])));
  });
  addNotes(() => true);
  return entries;
}

const line = (key, kind, text) => ({ key, shown: text, build: () => element("div", kind, text) });

function messageEntry(conversation, message, isFirst, isLast) {
  const isMine = message.from === user();
  const delivery = isMine && message.seq ? conversation.delivery(message.seq, user()) : null;
  const isOffered = message.unsent ? message.state === "failed" : !isRecalled(message);
  const parts = {
    seq: message.seq, from: message.from, isMine, isFirst, isLast, isOffered,
    isNamed: conversation.isGroup && !isMine && isFirst,
    isRecalled: isRecalled(message), isEdited: message.changed && !isRecalled(message), body: message.body,
    time: clock(message.time), state: message.state ?? (isMine ? deliveryState(delivery) : ""),
    reason: message.reason, readBy: delivery?.of > 1 && delivery.read > 0 ? delivery : null,
  };
  const latest = () => message.unsent ?? conversation.messages.get(message.seq);
  const open = anchor => openMessageMenu(anchor, conversation, latest());
  return { key: String(message.seq ?? message.id), shown: JSON.stringify(parts), build: () => messageRow(parts, open) };
}

function deliveryState(delivery) {
  if (!delivery) return "stored";
  return delivery.read === delivery.of ? "read" : delivery.delivered === delivery.of ? "delivered" : "stored";
}

function messageRow(parts, openMenu) {
  const { seq, from, isMine, isFirst, isLast, isNamed, isOffered, body, time, state, reason, readBy } = parts;
  const row = element("div", "message");
  const classes = { mine: isMine, first: isFirst, last: isLast, recalled: parts.isRecalled };
  for (const [name, isSet] of Object.entries(classes)) {
    row.classList.toggle(name, !!isSet);
  }
  if (state) row.classList.add(state);
  if (seq) row.dataset.seq = seq;
  row.dataset.state = state;
  if (isNamed) {
    const name = element("div", "from", from);
    name.style.color = nameColor(from);
    row.append(name);
  }
  const box = element("div", "box");
  box.append(element("div", "bubble", parts.isRecalled ? "Message recalled" : body));
  if (isOffered) {
    const more = element("button", "icon more");
    more.setAttribute("aria-label", "Actions for this message");
    more.setAttribute("aria-haspopup", "menu");
    more.append(icon("more"));
    more.onclick = () => openMenu(more);
    box.append(more);
  }
  const foot = element("div", "foot");
  if (parts.isEdited) foot.append(element("span", "edited", "edited"));
  if (state === "failed") foot.append(element("span", "", `Not sent. ${reason}`));
  else foot.append(element("time", "", time));
  if (readBy && readBy.read < readBy.of) foot.append(element("span", "", `read by ${readBy.read}`));
  if (STATE_NAMES[state]) {
    const mark = element("span", "state");
    mark.setAttribute("role", "img");
    mark.title = STATE_NAMES[state];
    mark.setAttribute("aria-label", STATE_NAMES[state]);
    mark.append(icon(state === "read" ? "delivered" : state));
    foot.append(mark);
  }
  row.append(box, foot);
  return row;
}

const STATE_NAMES = { pending: "Sending", stored: "Sent", delivered: "Delivered", read: "Read" };

/* Scrolling. */

export function isAtEnd() {
  const log = $("messages");
  return log.scrollHeight - log.scrollTop - log.clientHeight < 80;
}

export function handleScroll() {
  const conversation = current();
  if (!conversation) return;
  isFollowing = isAtEnd();
  drawDown(conversation);
  loadWhenNearTop(conversation);
  if (isFollowing && conversation.unread) draw();
}

export function scrollToEnd() {
  isFollowing = true;
  $("messages").scrollTop = $("messages").scrollHeight;
}

function drawDown(conversation) {
  $("down").hidden = isAtEnd();
  const text = conversation.unread ? `${conversation.unread} new` : "Latest messages";
  if ($("down").lastChild.textContent !== text) $("down").lastChild.textContent = text;
}

// Displays or loads earlier messages when the user has scrolled near to the first one.
function loadWhenNearTop(conversation) {
  if ($("messages").scrollTop > 200 || !$("messages").clientHeight) return;
  if (displayed.count < conversation.messages.size && displayed.count <= $("messages").childElementCount) {
    displayed.count += DISPLAYED;
    draw();
  } else if (conversation.hasEarlier && !conversation.isSyncing) {
    displayed.count = Math.max(displayed.count, conversation.messages.size + DISPLAYED);
    loadHistory(conversation);
  }
}
