// The conversations that the page syncs: ranges of ids, one after the other and page by page. No I/O, and no elements.

// With the longest ids, a frame with more cursors would exceed the frame limit of nodes.
const MAX_CURSORS = 200;
const MAX_RANGES = 16;
const ALL = { after: "", until: "" };

const covers = (one, other) => one.after <= other.after && (!one.until || other.until && one.until >= other.until);

export class SyncQueue {
  #ranges = [];      // The first range is in progress.
  #isSent = false;   // Whether a node has its request.

  // Begins with all conversations, on a new connection.
  restart() {
    this.#ranges = [{ ...ALL }];
    this.#isSent = false;
  }

  // Adds a conversation, or all of them without an id.
  request(key = "") {
    const range = key ? { after: before(key), until: key } : { ...ALL };
    if (this.#ranges.slice(this.#isSent ? 1 : 0).some(waiting => covers(waiting, range))) return;
    if (this.#ranges.length >= MAX_RANGES) this.#ranges.splice(1, Infinity, { ...ALL });
    else this.#ranges.push(range);
  }

  // Returns the request to send next, or null if there is none or a node has not answered the last one.
  // `known` are the conversations of the page.
  next(known, recent) {
    if (this.#isSent || !this.#ranges.length) return null;
    this.#isSent = true;
    const { after, until } = this.#ranges[0];
    const inRange = known.filter(({ key }) => key > after && (!until || key <= until));
    inRange.sort((one, other) => one.key < other.key ? -1 : 1);
    const page = inRange.slice(0, MAX_CURSORS);
    const cursor = ({ key, incarnation, cursor }) => [key, { incarnation, seq: cursor }];
    const last = inRange.length > MAX_CURSORS ? page.at(-1).key : until;
    return { type: "sync", cursors: Object.fromEntries(page.map(cursor)), recent, after, until: last };
  }

  // Handles the end of a page.
  handlePage({ after, more }) {
    this.#isSent = false;
    const range = this.#ranges[0];
    if (!range) return;
    if (!more || range.until && after >= range.until) this.#ranges.shift();
    else range.after = after;
  }

  // Returns whether a conversation may be part of the answer that the page is receiving.
  isAnswering(key) {
    const [range] = this.#ranges;
    return this.#isSent && key > range.after && (!range.until || key <= range.until);
  }

  // A node has rejected the last request: it is sent again.
  handleRejection() { this.#isSent = false; }
}

// Returns a text that sorts before an id, and after most of the ids before it.
function before(key) {
  const last = key.charCodeAt(key.length - 1);
  return key.slice(0, -1) + (last > 33 ? String.fromCharCode(last - 1) : "");
}
