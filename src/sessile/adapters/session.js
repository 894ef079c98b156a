// Sessile in the page: <script src="/.sessile/session.js" defer data-warn="60" data-after="/"></script>
(() => {
  const me = document.currentScript, warn = Number(me.dataset.warn || 60);
  const { after = "/", stay = "Stay signed in", text = "You will be signed out in" } = me.dataset;
  const base = new URL(".", me.src).pathname, name = "sessile " + base, page = document.documentElement;
  const channel = self.BroadcastChannel && new BroadcastChannel(name);
  let signedIn, warned, timer, dialog;

  const attempt = (job) => Promise.resolve().then(job).catch(() => undefined);
  const ask = (what, options) => attempt(async () => {
    const reply = await fetch(base + what, { cache: "no-store", ...options });
    return reply.ok && (reply.status === 204 || reply.json());
  });
  const tell = (news) => channel ? channel.postMessage(news) : attempt(() => localStorage.setItem(name, news + Math.random()));
  const clear = () => Promise.all([
    attempt(() => localStorage.clear()),
    attempt(() => sessionStorage.clear()),
    attempt(async () => Promise.all((await caches.keys()).map((key) => caches.delete(key)))),
    attempt(async () => Promise.all((await indexedDB.databases()).map((one) => new Promise((done) => {
      const gone = indexedDB.deleteDatabase(one.name);
      gone.onsuccess = gone.onerror = gone.onblocked = done;
    })))),
  ]);
  const leave = async () => {
    page.hidden = true;
    await Promise.race([clear(), new Promise((done) => setTimeout(done, 1000))]);
    location.replace(after);
  };
  const logout = async () => {
    const done = await ask("logout", { method: "POST", keepalive: true });
    tell("ended");
    if (done) return leave();
    await clear(); // no answer: ask as a page does, so that the user sees what comes of it
    const form = document.createElement("form");
    document.body.append(Object.assign(form, { method: "post", action: base + "logout" }));
    form.submit();
  };

  const check = async () => plan(await ask("status", { headers: { "Sessile-Passive": "1" } }));
  const extend = async () => {
    const state = await ask("extend", { method: "POST" });
    if (state) tell("extended");
    plan(state);
  };
  const plan = (state) => {
    clearTimeout(timer);
    if (!state) return void (timer = setTimeout(check, 30000)); // no answer: the page stays as it is
    if (signedIn && !state.authenticated) return leave();
    if (!(signedIn = state.authenticated)) return;
    const left = Math.ceil(state.expires_in);
    timer = setTimeout(check, 1000 * Math.min(300, Math.max(1, left > warn ? left - warn : Math.min(left, 5))));
    if (left > warn) dialog?.close();
    else if (warned || document.dispatchEvent(new CustomEvent("sessile:expiring", { cancelable: true, detail: left }))) show(left);
    warned = left <= warn;
  };
  const show = (left) => {
    if (!dialog) {
      dialog = document.createElement("dialog");
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: stay, onclick: extend });
      dialog.append(document.createElement("p"), button);
      document.body.append(dialog);
    }
    dialog.firstChild.textContent = dialog.ariaLabel = `${text} ${left} s.`;
    if (!warned) dialog.showModal();
  };

  const hear = (news) => news.startsWith("ended") ? leave() : check();
  if (channel) channel.onmessage = (event) => hear(event.data);
  else addEventListener("storage", (event) => event.key === name && event.newValue && hear(event.newValue));
  const caught = (selector) => (event) => event.target.closest(selector) && (event.preventDefault(), logout());
  addEventListener("submit", caught("form[data-sessile-logout]"));
  addEventListener("click", caught("[data-sessile-logout]:not(form)"));
  addEventListener("visibilitychange", () => document.hidden || check());
  addEventListener("pageshow", (event) => event.persisted && (page.hidden = true, location.reload()));
  self.sessile = { logout, extend, check };
  check();
})();
