// In place of Node's `crypto` in the studio: NATS' client imports it where it runs in Node, and a page has nothing of this name.
export {};
