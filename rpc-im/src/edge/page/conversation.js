// A conversation: its messages, cursors and members. No I/O, and no elements.

// The number of messages that a sync requests of a conversation without a cursor.
export const RECENT = 50;
// Above this number of members, nodes send no receipts.
export const MAX_RECEIPT_MEMBERS = 20;

const MAX_OUT_OF_ORDER = 1000;

export class Conversation {
  constructor(key) {
    this.key = key;              // The id; "@user" until a node has sent the id of a conversation of two users.
    this.name = "";
    this.isGroup = false;
    this.isOpen = false;
    this.isDescribed = false;    // Whether a node has described it.
    this.isGone = false;         // The user is not a member any more.
    this.count = 0;
    this.members = [];           // Empty for a large group.
    this.roles = new Map();
    this.role = "member";
    this.created = 0;            // When this page created it; sorts a conversation without messages.
    this.notes = [];             // Lines of this page: {after, text}
    this.draft = "";
    this.divider = null;         // The unread messages of the last visit begin after this sequence number.
    this.#restart("", 0);
  }

  #restart(incarnation, after) {
    this.incarnation = incarnation;
    // The page has every message in (floor, cursor].
    this.floor = this.cursor = after;
    this.first = 1;              // The first message that the cluster still has.
    this.messages = new Map();   // seq → {seq, from, time, kind, target, body, changed}
    this.outOfOrder = new Map();
    this.receipts = new Map();   // user → {delivered, read}
    this.described = 0;          // The members include the changes up to this sequence number.
    this.read = 0;
    this.unread = 0;
    this.counted = 0;            // `unread` counts the messages up to this sequence number.
  }

  get hasEarlier() { return this.floor >= this.first; }
  // Whether messages are on their way that the last sync has announced.
  get isSyncing() { return this.cursor < this.described; }
  get hasGap() { return this.outOfOrder.size > 0; }

  // Handles a `conversation` frame; returns the messages that are in order now. `me` is the user of this page.
  describe(frame, me) {
    const isReset = !!this.incarnation && this.incarnation !== frame.incarnation;
    if (this.incarnation !== frame.incarnation) this.#restart(frame.incarnation, frame.after ?? 0);
    if (isReset) this.notes = [{ after: 0, text: "The cluster has restored this conversation from a backup." }];
    const { name, group, open, count, members, role, first } = frame;
    Object.assign(this, { name, isGroup: group, isOpen: open, isGone: false, count, members, role, first });
    this.roles.set(me, role);
    if (frame.after > this.cursor) {
      // The messages between the cursor and `after` come from the history.
      for (const seq of this.messages.keys()) if (seq <= frame.after) this.messages.delete(seq);
      for (const seq of this.outOfOrder.keys()) if (seq <= frame.after) this.outOfOrder.delete(seq);
      this.floor = this.cursor = frame.after;
    }
    this.counted = Math.max(this.counted, frame.seq);
    this.described = Math.max(this.described, frame.seq);
    if (frame.read >= this.read) {
      this.read = frame.read;
      this.unread = frame.unread;
    } else {
      this.#countUnread(me);
    }
    return this.#takeInOrder(me);
  }

  // Inserts a message by its sequence number; returns the messages that are in order now.
  insert(message, me) {
    if (message.seq <= this.cursor || this.outOfOrder.has(message.seq)) return [];
    // The answer to a sync contains a message again that is dropped here.
    if (this.outOfOrder.size < MAX_OUT_OF_ORDER || message.seq === this.cursor + 1) {
      this.outOfOrder.set(message.seq, message);
    }
    return this.#takeInOrder(me);
  }

  #takeInOrder(me) {
    const taken = [];
    for (let next; (next = this.outOfOrder.get(this.cursor + 1)); taken.push(next)) {
      this.outOfOrder.delete(++this.cursor);
      this.messages.set(next.seq, next);
      this.#applyChange(next);
      if (next.kind === "members" && next.seq > this.described) this.#applyMembers(next, me);
      if (next.kind === "text" && next.from !== me && next.seq > this.counted) this.unread++;
      this.counted = Math.max(this.counted, next.seq);
    }
    return taken;
  }

  // Inserts earlier messages. They include the changes up to `asOf`, the cursor at the time of the request.
  insertHistory({ first, messages }, asOf) {
    if (messages.some(message => message.incarnation !== this.incarnation)) return;
    this.first = first;
    for (const message of messages) if (message.seq <= this.floor) this.messages.set(message.seq, message);
    this.floor = Math.min(this.floor, messages.length ? messages[0].seq - 1 : first - 1);
    for (let seq = asOf + 1; seq <= this.cursor; seq++) this.#applyChange(this.messages.get(seq));
  }

  // Applies an edit or a recall to its message.
  #applyChange(change) {
    const target = change && this.messages.get(change.target);
    if (!target || change.kind !== "edit" && change.kind !== "recall") return;
    // Replaces the message, because frames are shared with callers.
    this.messages.set(target.seq, { ...target, changed: true, body: change.kind === "edit" ? change.body : "" });
  }

  #applyMembers({ from, body }, me) {
    const { type, users, role } = parseChange(body);
    const isListed = this.members.length > 0 || this.count === 0;
    const added = type === "join" ? [from] : type === "add" ? users : [];
    const removed = type === "leave" ? [from] : type === "remove" ? users : [];
    if (added.includes(me)) this.isGone = false;
    if (removed.includes(me)) this.isGone = true;
    const before = this.members.length;
    if (isListed) {
      const members = new Set([...this.members, ...added]);
      for (const user of removed) members.delete(user);
      this.members = [...members].sort();
    }
    this.count += isListed ? this.members.length - before : added.length - removed.length;
    for (const user of removed) { this.roles.delete(user); this.receipts.delete(user); }
    if (type !== "set_role") return;
    if (role === "owner") this.setRole(from, "admin", me);
    this.setRole(users[0], role, me);
  }

  setRole(user, role, me) {
    this.roles.set(user, role);
    if (user === me) this.role = role;
  }

  // Handles a `receipt` frame, or the state of a member.
  handleReceipt(user, delivered, read, me) {
    const known = this.receipts.get(user) ?? { delivered: 0, read: 0 };
    this.receipts.set(user, {
      delivered: Math.max(known.delivered, delivered, read), read: Math.max(known.read, read),
    });
    if (user === me && read > this.read) this.setRead(read, me);
  }

  setRead(seq, me) {
    this.read = Math.max(this.read, seq);
    this.#countUnread(me);
  }

  #countUnread(me) {
    this.unread = 0;
    for (const message of this.messages.values()) {
      if (message.seq > this.read && message.kind === "text" && message.from !== me) this.unread++;
    }
  }

  // Returns how many other members have received and read a message; null if nodes send no receipts.
  delivery(seq, me) {
    const others = this.members.filter(member => member !== me);
    if (!others.length || this.count > MAX_RECEIPT_MEMBERS) return null;
    const reached = field => others.filter(member => (this.receipts.get(member)?.[field] ?? 0) >= seq).length;
    return { delivered: reached("delivered"), read: reached("read"), of: others.length };
  }

  // Returns the other user of a conversation of two users.
  peer(me) {
    return this.isGroup ? null : this.members.find(member => member !== me) ?? me;
  }

  title(me) {
    if (!this.isGroup) return this.key[0] === "@" ? this.key.slice(1) : this.peer(me);
    return this.name || this.members.filter(member => member !== me).join(", ") || "Group";
  }

  // Returns the last message that the conversation list shows.
  get last() {
    for (let seq = this.cursor; seq > this.floor; seq--) {
      const message = this.messages.get(seq);
      if (message?.kind === "text" || message?.kind === "members") return message;
    }
    return null;
  }

  get time() { return Math.max(this.created, this.messages.get(this.cursor)?.time ?? 0); }

  mayRecall(message, me) {
    return isOpenText(message) && !this.isGone && (message.from === me || this.isGroup && this.role !== "member");
  }

  mayEdit(message, me) { return isOpenText(message) && !this.isGone && message.from === me; }
}

export const isRecalled = message => message.kind === "text" && !!message.changed && !message.body;
const isOpenText = message => message?.kind === "text" && !isRecalled(message);

// Returns the change of members {type, users, role} in the body of a `members` message.
export function parseChange(body) {
  let change;
  try { change = JSON.parse(body); } catch { return { type: "unknown", users: [] }; }
  if (typeof change === "string") return { type: change, users: [] };
  const [type, value] = Object.entries(change ?? {})[0] ?? ["unknown", []];
  if (type === "set_role") return { type, users: [String(value[0])], role: String(value[1]) };
  return { type, users: [value].flat().map(String) };
}

// Returns the sentence of a `members` message.
export function changeText({ from, body }, me) {
  const { type, users, role } = parseChange(body);
  const subject = from === me ? "You" : from;
  const objects = users.map(user => user === me ? "you" : user).join(", ");
  switch (type) {
    case "join": return `${subject} joined the group`;
    case "leave": return `${subject} left the group`;
    case "add": return `${subject} added ${objects}`;
    case "remove": return `${subject} removed ${objects}`;
    case "set_role": return role === "owner" ? `${subject} made ${objects} the owner`
      : role === "admin" ? `${subject} made ${objects} an admin` : `${subject} made ${objects} a member`;
    default: return `${subject} changed the group`;
  }
}
