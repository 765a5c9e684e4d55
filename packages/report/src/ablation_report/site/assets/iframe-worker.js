// A worker for pages opened from the disk, where browsers start none: the script runs in a hidden
// frame. The search of the theme needs it. Without this file the theme would load one from a CDN.
(() => {
  if (window.location.protocol !== "file:") return;

  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      // Firefox would replace the empty document later on, and the script with it
      inside.document.open();
      inside.document.close();
      const script = inside.document.createElement("script");
      this.loaded = new Promise((resolve) => script.addEventListener("load", resolve));
      inside.postMessage = (data) => this.receive(new MessageEvent("message", { data }));
      script.src = new URL(url, document.baseURI).href;
      inside.document.body.append(script);
    }

    receive(message) {
      this.dispatchEvent(message);
      if (this.onmessage) this.onmessage(message);
    }

    async postMessage(data) {
      await this.loaded;
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
})();
