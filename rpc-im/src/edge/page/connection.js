// The connection to the cluster: one WebSocket to a node, and a reconnect to another node after a failure.

import { randomId } from "./dom.js";

const PING_AFTER = 25_000, ANSWER_TIMEOUT = 8_000, MAX_PAUSE = 5_000, RETRY_AFTER = 1_100;

// The rejection of a request by a node.
export class Rejection extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

// `handlers` are: frame(frame) for each frame that answers no request; sync() returns the next request for missed
// messages, or null; syncs is the queue of these requests;
// status(state, text); connected(node, earlier) with {node, time} of a lost connection; ended(reason); nodes(urls).
export class Connection {
  node = "";
  #token; #nodes; #handlers;
  #socket = null;
  #turn = 0;            // Selects the node to connect to.
  #failures = 0;
  #lost = null;         // The last connection, until the next one: {node, time}.
  #lastFrame = 0;
  #connectTimer = 0; #pingTimer = 0; #syncTimer = 0; #retryTimer = 0;
  #requests = new Map(); // Requests without an answer: id → {frame, isRejected, resolve, reject}

  constructor({ token, nodes }, handlers) {
    this.#token = token;
    this.#nodes = nodes;
    this.#handlers = handlers;
  }

  // Connects now, unless there is a connection.
  open() {
    clearTimeout(this.#connectTimer);
    if (this.#socket) return;
    this.#handlers.status("wait", this.#lost ? "Reconnecting…" : "Connecting…");
    let socket;
    try {
      socket = new WebSocket(this.#nodes[this.#turn % this.#nodes.length], "im.v1.json");
    } catch {
      return this.#connectLater();
    }
    this.#socket = socket;
    // Gives up on a node that neither accepts nor rejects the connection.
    const timeout = setTimeout(() => this.#handleLoss(socket), ANSWER_TIMEOUT);
    socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token: this.#token }));
    socket.onmessage = event => {
      clearTimeout(timeout);
      this.#lastFrame = Date.now();
      if (socket === this.#socket) this.#handleFrame(JSON.parse(event.data));
    };
    socket.onclose = () => { clearTimeout(timeout); this.#handleLoss(socket); };
  }

  // Connects at once if the connection was lost, for example after the computer was suspended.
  hurry() {
    if (this.#socket) return;
    this.#failures = 0;
    this.open();
  }

  close() {
    this.#drop();
    for (const timer of [this.#connectTimer, this.#syncTimer, this.#retryTimer]) clearTimeout(timer);
    this.#requests.clear();
  }

  // Sends a frame that has no answer. It is lost without a connection.
  notify(frame) {
    if (!this.node || this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  // Sends a request until a node has answered it, also over later connections; its id stays the same.
  // Resolves with the answer, or rejects with a `Rejection`.
  request(frame) {
    frame.id ??= randomId();
    return new Promise((resolve, reject) => {
      // A request waits for those that are to be sent again, so that messages keep their order.
      const request = { frame, isRejected: !!this.#retryTimer, resolve, reject };
      this.#requests.set(frame.id, request);
      if (!request.isRejected) this.notify(frame);
    });
  }

  // Requests missed messages of a conversation soon, or of all of them without an id.
  sync(key = "", delay = 50) {
    this.#handlers.syncs.request(key);
    this.#sendSyncLater(delay);
  }

  // Sends the next request for missed messages, unless a node has not answered the last one.
  sendSync() {
    const frame = this.node && this.#handlers.sync();
    if (frame) this.notify(frame);
  }

  #sendSyncLater(delay) {
    this.#syncTimer ||= setTimeout(() => {
      this.#syncTimer = 0;
      this.sendSync();
    }, delay);
  }

  #handleFrame(frame) {
    switch (frame.type) {
      case "auth_ok": return this.#handleLogin(frame);
      case "ping": return this.notify({ type: "pong" });
      case "pong": return;
      case "lagging": return this.sync(frame.conversation);
      case "kick": return this.#end(frame.reason === "replaced"
        ? "You signed in elsewhere, which ended this session." : `The session ended: ${frame.reason}`);
      case "reconnect": return this.#handleReconnect(frame);
      case "error": return this.#handleError(frame);
    }
    const request = frame.id && this.#requests.get(frame.id);
    if (request) this.#requests.delete(frame.id);
    // The conversation of an answer is handled like any other before the caller continues.
    if (frame.type === "conversation" || !frame.id) this.#handlers.frame(frame);
    request?.resolve(frame);
  }

  #handleLogin({ node }) {
    this.node = node;
    this.#failures = 0;
    this.#handlers.status("on", `Connected to node ${node}`);
    this.#handlers.connected(node, this.#lost);
    this.#lost = null;
    this.#pingTimer = setInterval(() => {
      if (Date.now() - this.#lastFrame > PING_AFTER + ANSWER_TIMEOUT) return this.#handleLoss(this.#socket);
      this.notify({ type: "ping" });
    }, PING_AFTER);
    this.#handlers.syncs.restart();
    this.sendSync();
    for (const { frame } of this.#requests.values()) this.notify(frame);
  }

  #handleError({ id, code, message }) {
    if (code === "unauthenticated") return this.#end("The sign-in has expired. Please sign in again.");
    if (code === "refused") return this.#end(message);
    const request = id && this.#requests.get(id);
    if (code === "too_many" || code === "unavailable") {
      if (request) request.isRejected = true;
      // Of the requests without an id, only a sync is rejected in this way.
      this.#retry(!id);
    } else if (request) {
      this.#requests.delete(id);
      request.reject(new Rejection(code, message));
    } else if (!id) {
      this.#handlers.frame({ type: "error", code, message });
    }
  }

  #retry(syncs) {
    if (syncs) {
      this.#handlers.syncs.handleRejection();
      this.#sendSyncLater(RETRY_AFTER);
    }
    this.#retryTimer ||= setTimeout(() => {
      this.#retryTimer = 0;
      for (const request of this.#requests.values()) {
        if (request.isRejected) {
          request.isRejected = false;
          this.notify(request.frame);
        }
      }
    }, RETRY_AFTER);
  }

  #handleReconnect({ nodes, within_ms }) {
    if (nodes.length) this.#setNodes(nodes);
    const socket = this.#socket;
    setTimeout(() => {
      if (socket !== this.#socket) return;
      // The loss selects the next node, which is the first one of the new list.
      if (nodes.length) this.#turn = -1;
      this.#handleLoss(socket);
    }, Math.random() * within_ms);
  }

  #handleLoss(socket) {
    if (socket !== this.#socket) return;
    this.#drop();
    this.#connectLater();
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    clearInterval(this.#pingTimer);
    if (this.node) this.#lost = { node: this.node, time: Date.now() };
    this.node = "";
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  // Connects to the next node: at once after the first failure, and with growing pauses after further ones.
  #connectLater() {
    clearTimeout(this.#connectTimer);
    this.#turn++;
    const longest = Math.min(MAX_PAUSE, 250 * 2 ** Math.min(this.#failures, 6));
    const pause = this.#failures && longest * (.5 + Math.random() / 2);
    this.#failures++;
    this.#handlers.status("wait", `Reconnecting${this.#failures > 3 ? ` (attempt ${this.#failures})` : ""}…`);
    this.#connectTimer = setTimeout(() => this.open(), pause);
    if (this.#failures % 3 === 2) this.#refreshNodes();
  }

  // Fetches the node list from the first node that responds.
  async #refreshNodes() {
    const origins = new Set([location.origin, ...this.#nodes.map(node => new URL(node.replace(/^ws/, "http")).origin)]);
    const requests = [...origins].map(async origin => {
      const answer = await fetch(origin + "/gate", { signal: AbortSignal.timeout(3000) });
      return (await answer.json()).nodes;
    });
    try {
      const nodes = await Promise.any(requests);
      if (nodes.length) this.#setNodes(nodes);
    } catch { /* No node responds now; a later attempt fetches the list. */ }
  }

  #setNodes(nodes) {
    this.#nodes = nodes;
    this.#handlers.nodes(nodes);
  }

  #end(reason) {
    this.close();
    this.#handlers.ended(reason);
  }
}
