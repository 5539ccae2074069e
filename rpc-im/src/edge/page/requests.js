// The requests of the user.

import { Rejection } from "./connection.js";
import { randomId } from "./dom.js";
import { adopt, conversationOf, state, user } from "./state.js";
import { insert } from "./frames.js";
import { refreshPanel, toast } from "./dialogs.js";
import { draw } from "./view.js";

const HISTORY_PAGE = 50;
export const MEMBERS_PAGE = 100;
const MAX_NAME = 128, MAX_FRAME = 60_000;

const byteLength = text => new TextEncoder().encode(text).length;

// Returns why a name of a user or a group is invalid, or an empty text.
export function nameProblem(name) {
  if (byteLength(name) > MAX_NAME) return `The name is longer than ${MAX_NAME} bytes: ${name.slice(0, 20)}…`;
  return /[\u0000-\u001f\u007f-\u009f]/.test(name) ? "The name contains control characters." : "";
}

// Returns why a name of a user is invalid, or an empty text. Nodes check further rules.
export function userProblem(name) {
  const isVisible = !/\p{Default_Ignorable_Code_Point}/u.test(name);
  return nameProblem(name) || (isVisible ? "" : "The name contains invisible characters.");
}

export const isTooLong = body => byteLength(JSON.stringify(body)) > MAX_FRAME;

// Returns the reason of a failed request in plain words.
export function reasonOf(error) {
  if (!(error instanceof Rejection)) throw error;
  switch (error.code) {
    case "not_found": return "It does not exist, or you are not a member.";
    case "internal": return "The node failed. Please try again.";
    default: return error.message[0].toUpperCase() + error.message.slice(1) + ".";
  }
}

export function send(conversation, body) {
  const { key } = conversation;
  const to = key[0] === "@" ? { user: key.slice(1) } : { conversation: key };
  const message = { id: randomId(), key, to, body, state: "pending", time: Date.now() };
  state.unsent.set(message.id, message);
  conversation.divider = null;
  return sendAgain(message);
}

export async function sendAgain(message) {
  const { id, key, to, body } = message;
  message.state = "pending";
  draw(true);
  // A message waits for the answer to the one before it: a node that rejects a message for its rate may accept the next
  // one, which would change their order.
  const request = () => state.connection.request({ type: "send", id, to, body });
  const answered = Promise.resolve(state.lastSends.get(key)).then(request);
  state.lastSends.set(key, answered.catch(() => {}));
  try {
    const answer = await answered;
    state.unsent.delete(id);
    if (to.user) adopt(to.user, answer.conversation);
    insertOwn(answer, { kind: "text", body });
  } catch (error) {
    message.state = "failed";
    message.reason = reasonOf(error);
  }
  draw();
}

export function discard(message) {
  state.unsent.delete(message.id);
  draw();
}

export function edit(conversation, seq, body) {
  return change(conversation, seq, { type: "edit", body });
}

export function recall(conversation, seq) {
  return change(conversation, seq, { type: "recall" });
}

async function change(conversation, target, frame) {
  try {
    const answer = await state.connection.request({ ...frame, conversation: conversation.key, target });
    insertOwn(answer, { kind: frame.type, target, body: frame.body ?? "" });
  } catch (error) {
    toast(`The message was not changed: ${reasonOf(error)}`);
  }
  draw();
}

// Inserts a message of this page, whose other fields are in the acknowledgement.
function insertOwn({ conversation, incarnation, seq, time }, message) {
  insert(conversation, { incarnation, seq, time, from: user(), ...message });
}

// Creates a group; resolves with its key, or null.
export async function createGroup(name, members, open) {
  try {
    const answer = await state.connection.request({ type: "create", name, members, open });
    return answer.conversation;
  } catch (error) {
    toast(`The group was not created: ${reasonOf(error)}`);
    return null;
  }
}

// Changes the members of a group; resolves with whether the cluster has done it.
export async function changeMembers(key, change) {
  try {
    const answer = await state.connection.request({ type: "change_members", conversation: key, change });
    if (answer.type === "send_ack") {
      // The answer to a user who has left.
      const conversation = conversationOf(key);
      conversation.isGone = true;
    }
    return true;
  } catch (error) {
    toast(`The members were not changed: ${reasonOf(error)}`);
    return false;
  } finally {
    draw();
  }
}

export async function loadHistory(conversation) {
  if (conversation.isLoading || !conversation.hasEarlier || !conversation.incarnation) return;
  conversation.isLoading = true;
  draw();
  const { key, floor, cursor } = conversation;
  try {
    const request = { type: "history", conversation: key, before: floor + 1, limit: HISTORY_PAGE };
    conversation.insertHistory(await state.connection.request(request), cursor);
  } catch (error) {
    // Further requests would fail, too.
    conversation.first = conversation.floor + 1;
    toast(`Earlier messages were not loaded: ${reasonOf(error)}`);
  }
  conversation.isLoading = false;
  draw();
}

// Loads a page of members with their roles and receipts; resolves with the members, or null.
export async function loadMembers(conversation, after = "") {
  if (conversation.key[0] === "@") return null;
  try {
    const request = { type: "list_members", conversation: conversation.key, after };
    const { members } = await state.connection.request(request);
    if (!after && members.length < MEMBERS_PAGE) {
      conversation.members = members.map(member => member.user);
      conversation.count = members.length;
    }
    for (const member of members) {
      conversation.setRole(member.user, member.role, user());
      conversation.handleReceipt(member.user, member.delivered, member.read, user());
    }
    return members;
  } catch (error) {
    // The user may have left the group in the meantime.
    if (!conversation.isGone) toast(`The members were not loaded: ${reasonOf(error)}`);
    return null;
  } finally {
    refreshPanel(conversation);
    draw();
  }
}
