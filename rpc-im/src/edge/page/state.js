// The state of the page: the signed-in user, the conversations, and messages without an acknowledgement.

import { Conversation } from "./conversation.js";
import { SyncQueue } from "./sync.js";

export const state = {
  me: null,                   // {user, device, token, nodes}
  connection: null,
  syncs: new SyncQueue(),     // The conversations that are to be synced.
  conversations: new Map(),   // key → Conversation
  unsent: new Map(),          // id → {id, key, to, body, state, time, reason}
  lastSends: new Map(),       // key → the promise of the last message to the conversation.
  online: new Map(),          // user → boolean
  current: null,              // The key of the displayed conversation.
  editing: null,              // The sequence number of the message in the composer.
};

// The sign-in of this tab. It survives a reload; another tab may have another user.
export const stored = {
  get me() { return JSON.parse(sessionStorage.getItem("me") || "null"); },
  set me(value) { value ? sessionStorage.setItem("me", JSON.stringify(value)) : sessionStorage.removeItem("me"); },
};

export const user = () => state.me.user;
export const current = () => state.conversations.get(state.current);

export function clear() {
  Object.assign(state, {
    me: null, connection: null, syncs: new SyncQueue(), conversations: new Map(), unsent: new Map(),
    lastSends: new Map(), online: new Map(), current: null, editing: null,
  });
}

export function conversationOf(key) {
  if (!state.conversations.has(key)) state.conversations.set(key, new Conversation(key));
  return state.conversations.get(key);
}

// Returns the conversation with a user, under the key "@user" until a node has sent its id.
export function conversationWith(peer) {
  for (const known of state.conversations.values()) if (known.peer(user()) === peer) return known;
  const made = conversationOf("@" + peer);
  made.members = [...new Set([user(), peer])];
  made.created = Date.now();
  return made;
}

// Replaces the key "@user" of a conversation by its id.
export function adopt(peer, key) {
  const early = state.conversations.get("@" + peer);
  if (!early || early.key === key) return;
  state.conversations.delete(early.key);
  const conversation = conversationOf(key);
  if (!conversation.members.length) conversation.members = early.members;
  conversation.created = Math.max(conversation.created, early.created);
  conversation.notes.push(...early.notes);
  conversation.draft ||= early.draft;
  for (const message of state.unsent.values()) if (message.key === early.key) message.key = key;
  state.lastSends.set(key, state.lastSends.get(early.key));
  if (state.current === early.key) state.current = key;
}

// Returns the conversations whose title contains a text, the one with the last message first.
export function ordered(text = "") {
  const wanted = text.trim().toLowerCase();
  const time = conversation => Math.max(conversation.time, ...unsentOf(conversation).map(message => message.time));
  return [...state.conversations.values()]
    .filter(conversation => conversation.title(user()).toLowerCase().includes(wanted))
    .sort((one, other) => time(other) - time(one));
}

export const unsentOf = ({ key }) => [...state.unsent.values()].filter(message => message.key === key);
