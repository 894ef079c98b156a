// The demo's own script: the theme, the panel, and the telling of attacks. Text goes in as text, never as markup.
"use strict";

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

// -- theme ----------------------------------------------------------------------------------------------------------------
const root = document.documentElement;
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not kept, then */ }
});

// -- panel ----------------------------------------------------------------------------------------------------------------
const panel = document.getElementById("panel");
if (matchMedia("(max-width: 62rem)").matches) panel.open = false;
const stateBox = document.getElementById("state");
const eventList = document.getElementById("events");
const KINDS = { none: "No session", anonymous: "Anonymous session", pending: "Sign-in not complete", authenticated: "Signed in" };
const LIMITS = { rotation: 20, idle: 600, absolute: 14400 };
const WORDS = { rotation: "Next rotation", idle: "Idle limit", absolute: "Absolute limit" };
let seen = 0;
let before = {};

const clock = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  return whole >= 3600 ? `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min` : whole >= 100 ? `${Math.round(whole / 60)} min` : `${whole} s`;
};

function showState(state) {
  stateBox.replaceChildren();
  const kind = make("div", "kind");
  kind.append(make("strong", "", KINDS[state.kind] + (state.user ? `: ${state.user}` : "")));
  stateBox.append(kind);
  if (state.kind === "none") {
    stateBox.append(make("p", "small", state.why ? `The last one ended: ${state.why}.` : "Nothing is stored for you, and no cookie is set."));
    before = {};
    return;
  }
  kind.append(make("code", "", state.id));
  const renewed = before.id !== undefined && before.id !== state.id;
  const rotated = renewed || (before.generation !== undefined && before.generation !== state.generation);
  const token = make("ol", "token");
  token.setAttribute("aria-label", "Parts of your token: which of them are new");
  for (const [part, fresh] of [["key", false], ["seed", renewed], [`gen ${state.generation}`, rotated], ["branch", rotated], ["tag", rotated]])
    token.append(make("li", fresh ? "fresh" : "", part));
  stateBox.append(token);
  stateBox.append(make("p", "small", renewed ? "New seed: a new token and a new id." : rotated ? "Next generation: the same session, a new token." : "Your token's parts. Its value stays in the cookie."));
  const meters = make("div", "meters");
  for (const name of ["rotation", "idle", "absolute"]) {
    const row = make("div");
    const meter = make("meter");
    meter.max = LIMITS[name];
    meter.value = state[name];
    meter.setAttribute("aria-label", WORDS[name]);
    row.append(make("span", "", WORDS[name]), meter, make("b", "", name === "rotation" && state.rotation === 0 ? "due" : clock(state[name])));
    meters.append(row);
  }
  stateBox.append(meters);
  before = { id: state.id, generation: state.generation };
}

function showEvent(event) {
  const first = eventList.firstElementChild;
  if (first?.dataset.says === event.says) {
    // The same again: counted, not repeated.
    const count = Number(first.dataset.count || 1) + 1;
    first.dataset.count = count;
    first.querySelector(".times").textContent = `× ${count}`;
    return;
  }
  const item = make("li", event.severity);
  const meta = make("div", "meta");
  const time = make("time", "", new Date(event.at * 1000).toLocaleTimeString());
  const requirement = make("abbr", "r", event.requirement);
  requirement.title = event.topic || "See the requirements page";
  meta.append(make("span", "code", event.code.replaceAll("-", " ")), time, requirement);
  item.dataset.says = event.says;
  meta.append(make("span", "times"));
  if (event.session) meta.append(make("code", "", event.session));
  item.append(meta, make("div", "", event.says));
  if (event.topic) item.append(make("div", "topic", event.topic));
  eventList.querySelector(".none")?.remove();
  eventList.prepend(item);
  while (eventList.children.length > 60) eventList.lastChild.remove();
}

async function refresh() {
  try {
    const answer = await fetch(`/panel?since=${seen}`, { headers: { "Sessile-Passive": "1" } });
    if (answer.ok) {
      const { state, events } = await answer.json();
      showState(state);
      for (const event of events) {
        seen = Math.max(seen, event.number);
        showEvent(event);
      }
      if (!eventList.children.length) eventList.append(make("li", "none", "Nothing yet. Put something into the cart."));
    }
  } catch { /* the demo was stopped; try again */ }
}

async function keepFresh() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((wake) => setTimeout(wake, 1500));
  }
}
keepFresh();

// -- attacks --------------------------------------------------------------------------------------------------------------
const TAGS = { victim: "Victim", attacker: "Attacker", shop: "Sessile" };

function tell(story, step) {
  const last = story.lastElementChild;
  if (step.who === "verdict") {
    const item = make("li", step.good ? "verdict" : "verdict failed", `${step.good ? "✓" : "✗"} ${step.says} `);
    if (step.requirement) item.append(make("span", "r", step.requirement));
    story.append(item);
  } else if (step.says.startsWith("Waiting") && last?.dataset.waiting) {
    last.lastElementChild.textContent = step.says;
  } else {
    const item = make("li", step.who);
    if (step.says.startsWith("Waiting")) item.dataset.waiting = "1";
    item.append(make("span", "who-tag", TAGS[step.who]), make("span", "", step.says));
    story.append(item);
  }
}

for (const card of document.querySelectorAll("[data-attack]")) {
  const button = card.querySelector("button");
  const story = card.querySelector(".story");
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = "Running …";
    story.hidden = false;
    story.replaceChildren();
    try {
      const answer = await fetch(`/attacks/${card.dataset.attack}`, { method: "POST" });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        rest += value;
        const lines = rest.split("\n");
        rest = lines.pop();
        for (const line of lines) tell(story, JSON.parse(line));
      }
    } catch {
      tell(story, { who: "verdict", says: "The attack could not be run: the demo does not answer.", good: false });
    }
    button.textContent = "Run again";
    button.disabled = false;
    refresh();
  });
}

// -- tokens -------------------------------------------------------------------------------------------------------------
const watch = document.getElementById("watch");

async function judge() {
  const answer = await fetch(`/tokens/${watch.dataset.name}/state`, { headers: { "Sessile-Passive": "1" } });
  if (!answer.ok) return;
  const { judges, expires } = await answer.json();
  for (const [name, told] of Object.entries(judges)) {
    const card = watch.querySelector(`[data-judge="${name}"]`);
    const verdict = told.accepts ? "✓ accepted" : `✗ refused${told.after === null ? "" : told.after < 1 ? ", at once" : `, ${told.after.toFixed(0)} s after the end`}`;
    card.classList.toggle("refuses", !told.accepts);
    // A reader that speaks hears changes, not every second.
    for (const [part, text] of [[".says", told.says], [".verdict", verdict]]) {
      const line = card.querySelector(part);
      if (line.textContent !== text) line.textContent = text;
    }
  }
  document.getElementById("expires").textContent = expires > 0 ? `expires by itself in ${Math.ceil(expires)} s` : "expired";
}

if (watch) {
  document.getElementById("use-refresh").addEventListener("click", async () => {
    const answer = await fetch(`/tokens/${watch.dataset.name}/refresh`, { method: "POST" });
    const { says, claims } = await answer.json();
    document.getElementById("refresh-said").textContent = says;
    if (claims) document.getElementById("claims").textContent = claims;
    judge();
  });
  const keepJudging = async () => {
    for (;;) {
      if (!document.hidden) await judge().catch(() => {});
      await new Promise((wake) => setTimeout(wake, 1000));
    }
  };
  keepJudging();
}
