// Sign-in, and the events of the user.

import { Connection } from "./connection.js";
import { $, face } from "./dom.js";
import { clear, current, ordered, state, stored, user } from "./state.js";
import { handleFrame, nextSync, reportRead } from "./frames.js";
import { edit, isTooLong, loadMembers, send, userProblem } from "./requests.js";
import { closeDialogs, openBegin, openPanel, toast } from "./dialogs.js";
import { draw, drawNow, handleScroll, scrollToEnd, showStatus } from "./view.js";

/* Sign-in. */

async function signIn(name, password) {
  const computer = localStorage.getItem("device") || "web-" + Math.random().toString(36).slice(2, 10);
  localStorage.setItem("device", computer);
  // Each tab is a separate device.
  const device = computer + "-" + Math.random().toString(36).slice(2, 6);
  const answer = await fetch("/login", {
    method: "POST", headers: { "content-type": "application/json" },
    body: JSON.stringify({ user: name, password, device, platform: "web" }),
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const reason = body.error || "The node does not respond.";
    throw new Error(answer.status === 401 ? "Unknown user or wrong password." : reason);
  }
  stored.me = { user: name, device, token: body.token, nodes: body.nodes };
}

function enter() {
  state.me = stored.me;
  state.connection = new Connection(state.me, {
    frame: handleFrame,
    sync: nextSync,
    syncs: state.syncs,
    status: showStatus,
    connected: handleConnected,
    ended: signOut,
    nodes(nodes) { stored.me = Object.assign(state.me, { nodes }); },
  });
  $("door").hidden = true;
  $("house").hidden = false;
  $("my-name").textContent = user();
  face($("my-face"), user());
  state.connection.open();
  draw();
}

function handleConnected(node, lost) {
  // The answer to the sync reports the users who are online.
  state.online.clear();
  const conversation = current();
  if (!conversation) return;
  if (lost) {
    const pause = ((Date.now() - lost.time) / 1000).toFixed(1);
    const text = lost.node === node ? `reconnected to node ${node} after ${pause} s`
      : `node ${lost.node} lost, connected to node ${node} after ${pause} s`;
    conversation.notes.push({ after: conversation.cursor, text });
  }
  if (!conversation.isGone) loadMembers(conversation);
}

function signOut(reason = "") {
  state.connection?.close();
  closeDialogs();
  clear();
  stored.me = null;
  showStatus("wait", "");
  document.title = "msnb";
  $("compose").value = "";
  $("house").hidden = true;
  $("house").dataset.view = "list";
  $("door").hidden = false;
  $("trouble").textContent = reason;
  $("user").focus();
}

$("door").querySelector("form").onsubmit = async event => {
  event.preventDefault();
  $("trouble").textContent = "";
  const name = $("user").value.trim();
  if (userProblem(name)) {
    $("trouble").textContent = userProblem(name);
    return;
  }
  $("login").disabled = true;
  try {
    await signIn(name, $("password").value);
    $("password").value = "";
    enter();
  } catch (error) {
    $("trouble").textContent = error instanceof TypeError ? "The node does not respond." : error.message;
  }
  $("login").disabled = false;
};

/* Conversations. */

export function show(key) {
  stopEditing();
  const before = current();
  if (before) before.draft = $("compose").value;
  state.current = key;
  const conversation = current();
  $("compose").value = conversation?.draft ?? "";
  $("house").dataset.view = conversation ? "thread" : "list";
  if (conversation) {
    conversation.divider = conversation.unread ? conversation.read : null;
    if (!conversation.isGone) loadMembers(conversation);
    drawNow(true);
    if (matchMedia("(min-width: 721px)").matches) $("compose").focus();
    reportRead();
  }
  draw();
}

export function forget(key) {
  state.conversations.delete(key);
  if (state.current === key) show(null);
  draw();
}

/* The composer. */

export function startEditing(message) {
  state.editing = message.seq;
  $("editing").hidden = false;
  $("compose").value = message.body;
  $("compose").focus();
}

function stopEditing() {
  if (state.editing === null) return;
  state.editing = null;
  $("editing").hidden = true;
  $("compose").value = "";
}

function submit() {
  const body = $("compose").value.trim(), conversation = current();
  if (!body || !conversation) return;
  if (isTooLong(body)) return toast("The message is too long.");
  const target = state.editing;
  if (target === null) send(conversation, body);
  else if (conversation.messages.get(target)?.body !== body) edit(conversation, target, body);
  stopEditing();
  $("compose").value = "";
}

$("composer").onsubmit = event => { event.preventDefault(); submit(); };
$("compose").onkeydown = event => {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    submit();
  } else if (event.key === "Escape" && state.editing !== null) {
    event.stopPropagation();
    stopEditing();
  } else if (event.key === "ArrowUp" && !$("compose").value) {
    const conversation = current();
    const own = [...conversation.messages.values()].filter(message => conversation.mayEdit(message, user()));
    if (!own.length) return;
    event.preventDefault();
    startEditing(own.reduce((last, message) => message.seq > last.seq ? message : last));
  }
};
$("editing-not").onclick = () => { stopEditing(); $("compose").focus(); };

/* Other elements and keys. */

$("new").onclick = openBegin;
$("leave").onclick = () => signOut();
$("people").onclick = () => openPanel(current());
$("back").onclick = () => show(null);
$("find").oninput = () => draw();
$("down").onclick = scrollToEnd;
$("messages").onscroll = handleScroll;

addEventListener("keydown", event => {
  if (!state.me || document.querySelector("dialog[open]")) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openBegin();
  } else if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    const keys = ordered($("find").value).map(conversation => conversation.key);
    const step = event.key === "ArrowDown" ? 1 : -1;
    const next = keys[(keys.indexOf(state.current) + step + keys.length) % keys.length];
    if (next) show(next);
  } else if (event.key === "Escape" && state.current && matchMedia("(max-width: 720px)").matches) {
    show(null);
  }
});

function handleReturn() {
  if (!state.me || document.hidden) return;
  state.connection.hurry();
  const conversation = current();
  if (conversation?.unread) conversation.divider = conversation.read;
  draw();
}
document.addEventListener("visibilitychange", handleReturn);
addEventListener("focus", handleReturn);
addEventListener("online", handleReturn);
addEventListener("resize", () => draw());

if (stored.me) {
  enter();
} else {
  $("door").hidden = false;
  $("user").focus();
}
