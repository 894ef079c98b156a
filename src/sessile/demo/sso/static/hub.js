// The page of single sign-on: who is signed in where, and each message as an arrow.
const NAMES = { you: "Your browser", provider: "The provider" };
for (const place of ["a", "b"]) NAMES[place] = document.querySelector(`#place-${place} h2`).textContent;
const story = document.getElementById("story");
let seen = 0;

function make(tag, kind, text) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  if (text !== undefined) element.textContent = text;
  return element;
}

function light(place, well) {
  const box = document.getElementById(`place-${place}`);
  if (!box) return;
  box.classList.add(well ? "lit" : "hurt");
  setTimeout(() => box.classList.remove("lit", "hurt"), 1800);
}

function draw(arrow) {
  const app = ["a", "b"].find((name) => name === arrow.from || name === arrow.to);
  const wire = app && (arrow.from === "provider" || arrow.to === "provider") && document.getElementById(`wire-${app}`);
  if (wire) {
    // From the provider outwards, the dashes run the other way.
    wire.setAttribute("class", `runs ${arrow.from === "provider" ? "back" : ""} ${arrow.well ? "" : "bad"}`);
    setTimeout(() => wire.removeAttribute("class"), 1600);
  }
  light(arrow.to, arrow.well);
  const item = make("li", arrow.well ? "" : "bad");
  const meta = make("div", "meta");
  const way = { rp: "sign-out by the browser", back: "back-channel" }[arrow.way];
  meta.append(make("time", "", new Date(arrow.at * 1000).toLocaleTimeString()));
  if (way) meta.append(make("span", "code", way));
  const line = make("div");
  const path = arrow.from === arrow.to ? NAMES[arrow.to] : `${NAMES[arrow.from]} → ${NAMES[arrow.to]}`;
  line.append(make("span", "arrow", path), `: ${arrow.says}`);
  item.append(meta, line);
  story.querySelector(".none")?.remove();
  story.prepend(item);
  while (story.children.length > 80) story.lastChild.remove();
}

function show(name, app) {
  const list = document.querySelector(`#place-${name} .sessions`);
  const wanted = app.sessions.length
    ? app.sessions.map((one) => `${one.user} · ${one.id}`)
    : ["Nobody is signed in."];
  if (wanted.join() !== [...list.children].map((item) => item.textContent).join()) {
    list.replaceChildren(...wanted.map((text) => make("li", app.sessions.length ? "" : "none", text)));
  }
  const button = document.querySelector(`[data-down="${name}"]`);
  button.setAttribute("aria-pressed", String(app.down));
  button.textContent = app.down ? "Receiver is down: let it up" : "Receiver is up: let it fail";
}

async function refresh() {
  const answer = await fetch(`/state?since=${seen}`);
  const { apps, arrows } = await answer.json();
  for (const [name, app] of Object.entries(apps)) show(name, app);
  for (const arrow of arrows) {
    seen = Math.max(seen, arrow.number);
    draw(arrow);
  }
}

for (const button of document.querySelectorAll("[data-down]")) {
  button.addEventListener("click", async () => {
    await fetch(`/down/${button.dataset.down}`, { method: "POST" });
    refresh();
  });
}

(async () => {
  for (;;) {
    await refresh().catch(() => {});
    await new Promise((wake) => setTimeout(wake, 700));
  }
})();
