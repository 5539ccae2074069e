// The frames of nodes: they change the state. The requests of the user are in `requests.js`.

import { RECENT } from "./conversation.js";
import { adopt, conversationOf, current, state, user } from "./state.js";
import { loadMembers } from "./requests.js";
import { refreshPanel, toast } from "./dialogs.js";
import { draw, isAtEnd } from "./view.js";

const GAP_TIMEOUT = 500, ACK_INTERVAL = 100;

export function handleFrame(frame) {
  handlers[frame.type]?.(frame);
  draw();
}

// Returns the next request for the messages after the cursors, or null.
export function nextSync() {
  const known = [...state.conversations.values()].filter(({ cursor, isGone }) => cursor > 0 && !isGone);
  return state.syncs.next(known, RECENT);
}

const handlers = {
  conversation(frame) {
    if (!frame.group) adopt(frame.members.find(member => member !== user()) ?? user(), frame.conversation);
    const isNew = !state.conversations.has(frame.conversation);
    const conversation = conversationOf(frame.conversation);
    if (isNew && !frame.seq) conversation.created = Date.now();
    handleTaken(conversation, conversation.describe(frame, user()));
    conversation.isDescribed = true;
    // A report is lost with its connection.
    if (frame.read < conversation.read) sendRead(conversation);
    // Messages follow only in the answer to a sync.
    if (isNew && !state.syncs.isAnswering(frame.conversation)) state.connection.sync(frame.conversation);
    refreshPanel(conversation);
  },
  push({ type, ...message }) { insert(message.conversation, message); },
  synced(frame) {
    for (const key of frame.gone) {
      const conversation = state.conversations.get(key);
      if (conversation) conversation.isGone = true;
    }
    state.syncs.handlePage(frame);
    state.connection.sendSync();
    refreshPanel(current());
  },
  receipt({ conversation, user: member, delivered, read }) {
    state.conversations.get(conversation)?.handleReceipt(member, delivered, read, user());
  },
  presence(frame) {
    state.online.set(frame.user, frame.online);
    refreshPanel(current());
  },
  error({ message }) { toast(`The node rejected a request: ${message}`); },
};

// Inserts a message that was received, or that a node has stored for this page.
export function insert(key, message) {
  if (!state.conversations.has(key)) {
    const isPair = key.startsWith("d-");
    if (isPair && message.from !== user()) adopt(message.from, key);
    const conversation = conversationOf(key);
    conversation.isGroup = !isPair;
    if (isPair && !conversation.members.length) conversation.members = [...new Set([user(), message.from])];
  }
  const conversation = conversationOf(key);
  if (!conversation.isDescribed) state.connection.sync(key);
  conversation.incarnation ||= message.incarnation;
  if (conversation.incarnation !== message.incarnation) return state.connection.sync(key);
  handleTaken(conversation, conversation.insert(message, user()));
  if (conversation.hasGap) syncGapsLater();
}

// Acknowledges messages that are in order now, and refreshes what depends on them.
function handleTaken(conversation, messages) {
  if (!messages.length) return;
  acknowledgeLater(conversation);
  const hasChange = messages.some(message => message.kind === "members" && message.seq >= conversation.described);
  if (hasChange && conversation === current() && !conversation.isGone) loadMembers(conversation);
  refreshPanel(conversation);
}

const acknowledged = new Set();
let ackTimer = 0, gapTimer = 0;

function acknowledgeLater(conversation) {
  acknowledged.add(conversation.key);
  ackTimer ||= setTimeout(() => {
    ackTimer = 0;
    for (const key of acknowledged) {
      const known = state.conversations.get(key);
      if (known && !known.isGone) state.connection?.notify({ type: "ack", conversation: key, seq: known.cursor });
    }
    acknowledged.clear();
  }, ACK_INTERVAL);
}

// The missing messages may be on their way from another node, so a sync waits for them.
function syncGapsLater() {
  gapTimer ||= setTimeout(() => {
    gapTimer = 0;
    for (const { key, hasGap } of state.conversations.values()) if (hasGap) state.connection?.sync(key, 0);
  }, GAP_TIMEOUT);
}

// Reports that the user has read the displayed conversation, if its end is visible in a focused window.
export function reportRead() {
  const conversation = current();
  if (!conversation || conversation.isGone || !state.connection?.node) return;
  if (document.hidden || !document.hasFocus() || !isAtEnd() || conversation.read >= conversation.cursor) return;
  conversation.setRead(conversation.cursor, user());
  sendRead(conversation);
}

function sendRead(conversation) {
  state.connection.notify({ type: "read", conversation: conversation.key, seq: conversation.read });
}
