// The line to the server: pictures and events come, commands go; it comes back when it breaks.

const SILENCE_MS = 6000; // without a message, the connection counts as lost

export class Line {
  constructor(path, { opened, event, picture, closed }) {
    Object.assign(this, { opened, event, picture, closed });
    this.address = new URL(path, location.href.replace(/[?#].*/, ""));
    this.address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = null;
    this.attempts = this.last = 0;
    this.ended = false;
    this.watch = setInterval(() => {
      const open = this.socket && this.socket.readyState <= WebSocket.OPEN;
      if (open && Date.now() - this.last > SILENCE_MS) this.socket.close();
    }, 1000);
    this.connect();
  }

  get online() { return Boolean(this.socket) && this.socket.readyState === WebSocket.OPEN; }

  connect() {
    const socket = this.socket = new WebSocket(this.address);
    socket.binaryType = "arraybuffer";
    this.last = Date.now();
    socket.onopen = () => { this.attempts = 0; this.opened(); };
    socket.onmessage = ({ data }) => {
      this.last = Date.now();
      if (typeof data === "string") this.event(JSON.parse(data));
      else this.picture(data);
    };
    socket.onclose = ({ reason }) => {
      if (this.ended) return;
      this.closed(reason);
      setTimeout(() => this.ended || this.connect(), Math.min(5000, 300 * 2 ** this.attempts++));
    };
  }

  post(message) {
    if (this.online) this.socket.send(JSON.stringify(message));
  }

  end() {
    this.ended = true;
    clearInterval(this.watch);
    this.socket.close();
  }
}
