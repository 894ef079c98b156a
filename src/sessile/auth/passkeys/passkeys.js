// Passkeys in the page: <script src="…/passkeys.js" defer></script>, and a form for each ceremony:
//   <form data-sessile-passkey="get" data-begin="…" data-finish="…" data-after="/" data-autofill>   (or "create")
//     <input name="user" autocomplete="username webauthn"> <button>Sign in</button> <p role="status"></p>
// Both addresses get the form's fields; the second one `credential` beside them. They answer with JSON: the options;
// {next} or {error}. What is said stands in the form's role=status; data-refused="…" on it is another wording.
(() => {
  const keys = self.PublicKeyCredential, all = "form[data-sessile-passkey]";
  const words = {
    busy: "Follow the instructions of your browser.",
    done: "Done.",
    cancelled: "Nothing happened: it was cancelled, took too long, or no passkey fits.",
    exists: "This device has a passkey of yours already.",
    failed: "That did not work. Try again.",
    full: "You have as many passkeys as allowed. Remove one first.",
    refused: "This passkey was not accepted.",
    site: "Passkeys do not work at this address.",
    stale: "That took too long. Try again.",
    unsupported: "This browser cannot use passkeys.",
  };
  const meaning = { NotAllowedError: "cancelled", InvalidStateError: "exists", SecurityError: "site", NotSupportedError: "unsupported" };
  let current, last = Promise.resolve(); // a browser has one ceremony at a time: a new one ends the one before

  const say = (form, what) => {
    const place = form.querySelector("[role=status]");
    if (place) place.textContent = what && (place.dataset[what] || words[what]);
    form.dispatchEvent(new CustomEvent("sessile:passkey", { bubbles: true, detail: what }));
  };
  const go = (where) => {
    const next = new URL(where, location.href);
    if (next.origin === location.origin) location.assign(next);
  };
  const post = async (form, url, { credential, mediation, signal }) => {
    const body = new URLSearchParams(new FormData(form));
    if (mediation) body.delete(form.querySelector("[autocomplete~=webauthn]")?.name); // the user has named nobody yet
    if (credential) body.set("credential", JSON.stringify(credential));
    const reply = await fetch(url, { method: "POST", body, cache: "no-store", signal });
    const said = await reply.json().catch(() => ({}));
    if (reply.ok && !reply.redirected) return said;
    throw Object.assign(new Error("refused"), { code: said.error, next: reply.redirected ? reply.url : said.next });
  };
  const once = async (form, mediation, signal) => {
    const { sessilePasskey: verb, begin, finish, after = "/" } = form.dataset;
    const isNew = verb === "create";
    try {
      if (!mediation) say(form, "busy");
      const options = await post(form, begin, { mediation, signal });
      const publicKey = isNew ? keys.parseCreationOptionsFromJSON(options) : keys.parseRequestOptionsFromJSON(options);
      const asked = { publicKey, signal, ...(mediation && { mediation }) };
      const credential = await (isNew ? navigator.credentials.create(asked) : navigator.credentials.get(asked));
      const { next = after } = await post(form, finish, { credential, mediation });
      say(form, "done");
      go(next);
    } catch (error) {
      if (signal.aborted) return;
      if (error.next) return go(error.next);
      const what = meaning[error.name] || (error.code in words ? error.code : "failed");
      if (!mediation || what !== "cancelled") say(form, what);
      // Offer them again beside the input, unless that is what failed: a page must not ask in circles.
      if (!mediation && "autofill" in form.dataset) offer(form);
    }
  };
  const run = (form, mediation) => {
    current?.abort();
    const { signal } = (current = new AbortController());
    return (last = last.then(() => signal.aborted || once(form, mediation, signal)));
  };
  const offer = async (form) => {
    const busy = current;
    if ((await keys.isConditionalMediationAvailable?.()) && current === busy) run(form, "conditional");
  };

  addEventListener("submit", (event) => {
    if (!event.target.matches(all)) return;
    event.preventDefault();
    run(event.target);
  });
  addEventListener("pagehide", () => current?.abort());
  for (const form of document.querySelectorAll(all)) {
    if (!keys?.parseRequestOptionsFromJSON) {
      say(form, "unsupported");
      for (const button of form.querySelectorAll("button")) button.disabled = true;
    } else if ("autofill" in form.dataset) offer(form);
  }
})();
