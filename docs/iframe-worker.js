// Browsers start no worker for a page that was opened from disk. There, the search runs in a hidden frame instead,
// which is given the same script and the same messages.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.inside = frame.contentWindow;
      const answer = data => this.dispatchEvent(new MessageEvent("message", { data }));
      const load = source => new Promise((loaded, failed) => {
        const tag = this.inside.document.createElement("script");
        Object.assign(tag, { src: source, onload: loaded, onerror: failed });
        this.inside.document.body.appendChild(tag);
      });
      const load_in_turn = sources => sources.reduce((before, each) => before.then(() => load(each)), Promise.resolve());
      this.inside.postMessage = answer;
      this.inside.importScripts = (...sources) => load_in_turn(sources);
      this.ready = load(script);
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
