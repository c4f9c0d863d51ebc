// A target in words: the finder's box is shown dashed, and tracked once it is confirmed.

const $ = (id) => document.getElementById(id);

export class Finding {
  constructor(stage, { ask, mayStart }) {
    Object.assign(this, { stage, ask, mayStart });
    this.question = 0; // the number of the question whose box is awaited or shown
    $("find").onsubmit = (event) => { event.preventDefault(); this.begin(); };
    $("confirm").onclick = () => this.confirm();
    $("discard").onclick = () => this.end();
    addEventListener("keydown", (event) => event.key === "Escape" && this.question && this.end());
  }

  begin() {
    const words = $("words").value.trim();
    if (!words || this.question || !this.stage.head || !this.mayStart()) return;
    this.stage.hold();
    this.question = this.ask("find", { picture: this.stage.head.picture, words });
    this.show();
  }

  found(id, box) {
    if (id !== this.question) return;
    this.stage.offer(box);
    this.show();
  }

  refused(id) { // a message that was not read at all has no number
    if (id === this.question || id === null) this.end();
  }

  confirm() {
    const { head, candidate } = this.stage;
    if (candidate) this.ask("add", { picture: head.picture, box: candidate });
    this.end();
  }

  end() { // also where a box was drawn instead
    this.question = 0;
    this.stage.release();
    this.show();
  }

  show() {
    const { candidate } = this.stage;
    $("ask").hidden = Boolean(candidate);
    $("ask").disabled = Boolean(this.question);
    $("ask").textContent = this.question ? "Finding …" : "Find";
    $("confirm").hidden = !candidate;
    $("discard").hidden = !this.question;
    $("discard").textContent = candidate ? "Discard" : "Cancel";
  }
}
