// Dialogs, menus and short reports.

import { isRecalled, MAX_RECEIPT_MEMBERS } from "./conversation.js";
import { $, element, face, icon, namesIn, showEntries } from "./dom.js";
import { conversationWith, state, user } from "./state.js";
import {
  changeMembers, createGroup, discard, loadMembers, MEMBERS_PAGE, nameProblem, recall, sendAgain, userProblem,
} from "./requests.js";
import { forget, show, startEditing } from "./main.js";

const TOAST_TIME = 7_000;
// The maximum number of members whose receipts the details of a message count.
const MAX_COUNTED = 2_000;

/* Reports and questions. */

let toastTimer = 0;

export function toast(text) {
  // An element in an open dialog is displayed above it.
  (document.querySelector("dialog[open]") ?? document.body).append($("toast"));
  $("toast").textContent = text;
  $("toast").showPopover();
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => $("toast").hidePopover(), TOAST_TIME);
}

// Asks a question; resolves with whether the user agrees.
function confirm(text, action) {
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = action;
  $("confirm").returnValue = "no";
  $("confirm").showModal();
  return new Promise(resolve => {
    $("confirm").addEventListener("close", () => resolve($("confirm").returnValue === "yes"), { once: true });
  });
}

export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  document.body.append($("menu"), $("toast"));
}

/* Menus. */

// Opens a menu at an element. An item is {text, isDangerous, run}.
function openMenu(anchor, items) {
  const menu = $("menu");
  (anchor.closest("dialog") ?? document.body).append(menu);
  menu.replaceChildren(...items.map(({ text, isDangerous, run }) => {
    const item = element("button", isDangerous ? "danger" : "", text);
    item.setAttribute("role", "menuitem");
    item.onclick = () => { menu.hidePopover(); run(); };
    return item;
  }));
  menu.showPopover();
  const { left, right, top, bottom } = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  menu.style.left = `${Math.max(8, left + width > innerWidth - 8 ? right - width : left)}px`;
  menu.style.top = `${bottom + height > innerHeight - 8 ? top - height - 4 : bottom + 4}px`;
  menu.firstChild.focus();
}

$("menu").onkeydown = event => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const items = [...$("menu").children];
  items.at((items.indexOf(document.activeElement) + step) % items.length).focus();
};

export function openMessageMenu(anchor, conversation, message) {
  if (message.state === "failed") {
    return openMenu(anchor, [
      { text: "Send again", run: () => sendAgain(message) },
      { text: "Discard", isDangerous: true, run: () => discard(message) },
    ]);
  }
  const items = [{ text: "Copy text", run: () => copy(message.body) }];
  if (conversation.mayEdit(message, user())) items.push({ text: "Edit", run: () => startEditing(message) });
  if (message.from === user()) items.push({ text: "Details", run: () => openDetails(conversation, message) });
  if (conversation.mayRecall(message, user())) {
    const run = async () => {
      const question = "Recall this message? Nobody can read it afterwards.";
      if (await confirm(question, "Recall")) recall(conversation, message.seq);
    };
    items.push({ text: "Recall", isDangerous: true, run });
  }
  openMenu(anchor, items);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    toast("The browser does not allow this page to copy text.");
  }
}

// Displays who has received and read a message.
async function openDetails(conversation, message) {
  $("details-text").replaceChildren(element("p", "", "Loading…"));
  $("details").showModal();
  let delivered = 0, read = 0, of = 0, after = "", names = [], page;
  do {
    page = await loadMembers(conversation, after) ?? [];
    for (const member of page.filter(member => member.user !== user())) {
      of++;
      if (member.read >= message.seq) { read++; names.push(member.user); }
      if (member.delivered >= message.seq) delivered++;
    }
    after = page.at(-1)?.user;
  } while (page.length === MEMBERS_PAGE && of < MAX_COUNTED);
  const more = page.length === MEMBERS_PAGE ? " of the first" : " of";
  const lines = [
    `Sent ${new Date(message.time).toLocaleString()}`,
    `Delivered to ${delivered}${more} ${of}`, `Read by ${read}${more} ${of}`,
  ];
  if (names.length && names.length <= MAX_RECEIPT_MEMBERS) lines.push(`Read by: ${names.join(", ")}`);
  if (message.changed && !isRecalled(message)) lines.push("Edited");
  $("details-text").replaceChildren(...lines.map(text => element("p", "", text)));
}

/* New conversations. */

const mode = () => document.querySelector("input[name=mode]:checked").value;

export function openBegin() {
  for (const field of ["members", "group", "join-id"]) $(field).value = "";
  $("open-group").checked = false;
  $("mode-user").checked = true;
  drawMode();
  $("begin").showModal();
  $("members").focus();
}

function drawMode() {
  for (const row of $("begin").querySelectorAll("[data-mode]")) {
    row.hidden = !row.dataset.mode.split(" ").includes(mode());
  }
  $("members-label").textContent = mode() === "user" ? "User" : "Members";
  $("members").placeholder = mode() === "user" ? "bo" : "bo, cy";
  $("begin-go").textContent = { user: "Start", group: "Create", join: "Join" }[mode()];
  $("begin-trouble").textContent = "";
}

for (const input of document.querySelectorAll("input[name=mode]")) {
  input.onchange = () => {
    drawMode();
    $({ user: "members", group: "group", join: "join-id" }[mode()]).focus();
  };
}

$("begin").querySelector("form").onsubmit = async event => {
  event.preventDefault();
  const chosen = mode(), text = $("members").value.trim(), id = $("join-id").value.trim();
  const users = chosen === "group" ? namesIn(text).filter(name => name !== user()) : [text].filter(Boolean);
  const problem = chosen === "user" && !text ? "Enter the name of a user."
    : chosen === "join" && !id ? "Enter the id of a group; its members find it in the list of members."
    : [...users.map(userProblem), ...[$("group").value, id].map(nameProblem)].find(Boolean);
  if (problem) {
    $("begin-trouble").textContent = problem;
    return;
  }
  // A dialog restores the focus when it closes; the conversation must take it afterwards.
  $("begin").close();
  if (chosen === "user") {
    show(conversationWith(text).key);
  } else if (chosen === "group") {
    const key = await createGroup($("group").value.trim(), users, $("open-group").checked);
    if (key) show(key);
  } else if (await changeMembers(id, { join: true })) {
    show(id);
  }
};
$("begin-not").onclick = () => $("begin").close();

/* The members of a group. */

// The displayed conversation and its loaded pages of members.
const panel = { conversation: null, people: [], isWhole: true, isLoading: false };

export async function openPanel(conversation) {
  Object.assign(panel, { conversation, people: [], isWhole: true });
  $("panel-id").value = conversation.key;
  $("add").value = "";
  drawPanel();
  $("panel").showModal();
  await loadPanel("");
}

async function loadPanel(after) {
  const { conversation } = panel;
  panel.isLoading = true;
  const page = await loadMembers(conversation, after);
  panel.isLoading = false;
  if (!page || panel.conversation !== conversation) return;
  panel.people = after ? [...panel.people, ...page] : page;
  panel.isWhole = page.length < MEMBERS_PAGE;
  drawPanel();
}

// Updates the members if they are displayed.
export function refreshPanel(conversation) {
  if (!conversation || panel.conversation !== conversation || !$("panel").open || panel.isLoading) return;
  if (conversation.isGone) return $("panel").close();
  drawPanel();
  if (panel.loadedCount !== conversation.count || rolesText(conversation) !== panel.loadedRoles) {
    panel.loadedCount = conversation.count;
    panel.loadedRoles = rolesText(conversation);
    loadPanel("");
  }
}

const rolesText = ({ roles, members }) => JSON.stringify([members, [...roles].sort()]);

function drawPanel() {
  const { conversation, people, isWhole } = panel;
  const isAdmin = conversation.role !== "member";
  $("panel-title").textContent = conversation.count === 1 ? "1 member" : `${conversation.count} members`;
  $("panel-open").textContent = conversation.isOpen ? "Anyone with this id may join the group."
    : "The owner and admins add members.";
  $("add-row").hidden = !isAdmin;
  $("more-people").hidden = isWhole;
  const entry = ({ user: name }) => {
    const role = conversation.roles.get(name) ?? "member", actions = memberActions(conversation, name, role);
    const isOnline = !!state.online.get(name) || name === user();
    const parts = { name, role, isOnline, actions: actions.map(({ text }) => text) };
    return { key: name, shown: JSON.stringify(parts), build: () => memberRow(parts, actions) };
  };
  showEntries($("people-list"), people.map(entry));
}

function memberRow({ name, role, isOnline }, actions) {
  const row = element("li"), who = element("div", "who");
  who.append(element("b", "", name === user() ? `${name} (you)` : name), element("span", "role", role));
  row.append(face(element("div", "face"), name, isOnline), who);
  row.firstChild.setAttribute("aria-hidden", "true");
  if (actions.length) {
    const more = element("button", "icon");
    more.setAttribute("aria-label", `Actions for ${name}`);
    more.setAttribute("aria-haspopup", "menu");
    more.append(icon("more"));
    more.onclick = () => openMenu(more, actions);
    row.append(more);
  }
  return row;
}

function memberActions(conversation, name, role) {
  const { key } = conversation, own = conversation.role;
  if (name === user()) return [];
  const setRole = (text, role) => ({ text, run: () => changeMembers(key, { set_role: { user: name, role } }) });
  const actions = [];
  if (own === "owner") {
    actions.push(role === "admin" ? setRole("Make a member", "member") : setRole("Make an admin", "admin"));
    const run = async () => {
      const text = `Make ${name} the owner? You become an admin.`;
      if (await confirm(text, "Hand over")) changeMembers(key, { set_role: { user: name, role: "owner" } });
    };
    actions.push({ text: "Hand over ownership", run });
  }
  if (own === "owner" || own === "admin" && role === "member") {
    const run = async () => {
      if (await confirm(`Remove ${name} from the group?`, "Remove")) changeMembers(key, { remove: name });
    };
    actions.push({ text: "Remove", isDangerous: true, run });
  }
  return actions;
}

$("add-row").onsubmit = async event => {
  event.preventDefault();
  const users = namesIn($("add").value), problem = users.map(userProblem).find(Boolean);
  if (problem) return toast(problem);
  if (users.length && await changeMembers(panel.conversation.key, { add: { users } })) $("add").value = "";
};
$("panel-id").onfocus = () => $("panel-id").select();
$("panel-not").onclick = () => $("panel").close();
$("more-people").onclick = () => loadPanel(panel.people.at(-1)?.user ?? "");
$("leave-group").onclick = async () => {
  const { key } = panel.conversation;
  if (!await confirm("Leave this group? Others must add you again, unless it is open.", "Leave")) return;
  if (await changeMembers(key, { leave: true })) {
    $("panel").close();
    forget(key);
  }
};
